#include "adapters.hpp"

namespace vivace {

LowRank::LowRank(Runtime& runtime, DType dtype, int inputs,
                 const std::vector<LowRankSource>& sources) {
  const auto matrix = [&](int n, int k) {
    const PackedMatrix shape{.format = float_format(dtype), .n = n, .k = k};
    return std::make_shared<Linear>(runtime, shape, Vector());
  };
  std::vector<WeightPart> stacked;
  std::vector<std::shared_ptr<Linear>> matrices;
  std::size_t bytes = 0;
  int rank = 0;
  for (const LowRankSource& source : sources) {
    matrices.push_back(matrix(source.b.num_rows, source.a.num_rows));
    parts.push_back({matrices.back(), source.first, rank, source.scale});
    stacked.push_back(source.a);
    rank += source.a.num_rows;
    bytes += aligned(matrices.back()->nbytes());
  }
  const auto all = matrix(rank, inputs);
  a = all;
  // One mapping, which goes when the adapter goes.
  const auto memory = std::make_shared<Memory>(bytes + aligned(all->nbytes()));
  std::size_t offset = 0;
  const auto pack = [&](Linear& linear, const std::vector<WeightPart>& from) {
    linear.use({memory, memory->at(offset)});
    offset += aligned(linear.nbytes());
    linear.pack(runtime, from);
  };
  pack(*all, stacked);
  for (std::size_t i = 0; i < sources.size(); ++i) pack(*matrices[i], {sources[i].b});
}

AdapterSum::AdapterSum(const OpContext& context, ScratchLayout& layout, const LinearPtr& linear,
                       const std::optional<Norm>& norm)
    : linear_(linear), format_(float_format(context.dtype)) {
  if (!has_room()) return;
  const int rows = context.max_rows, rank = linear->adapter_rank;
  packer_ = RowPacker(context, layout, {format_, linear->k()}, norm, rows);
  inner_ = layout.take<float>(std::size_t(rows) * rank);
  product_ = layout.take<float>(std::size_t(rows) * linear->n());
  packed_ = layout.take<char>(
      context.runtime.kernels.rows_bytes(packed_rows(format_, rows, rank, nullptr)));
}

bool AdapterSum::applies(const Frame& frame) const {
  if (!has_room()) return false;
  return std::any_of(frame.adapters.begin(), frame.adapters.end(),
                     [&](const AdapterRows& one) { return linear_->adapter(one.slot) != nullptr; });
}

void AdapterSum::add(const Frame& frame, Rows x, Rows sums, float multiplier) const {
  if (!has_room()) return;
  for (const AdapterRows& one : frame.adapters) {
    const LowRank* const adapter = linear_->adapter(one.slot);
    if (adapter != nullptr) add_one(frame, *adapter, one.rows, x, sums, multiplier);
  }
}

void AdapterSum::narrow(BatchBounds& bounds) const {
  bounds.adapter_slots = std::max(bounds.adapter_slots, int(linear_->adapters.size()));
}

void AdapterSum::add_one(const Frame& frame, const LowRank& adapter, Ints rows, Rows x, Rows sums,
                         float multiplier) const {
  const int count = static_cast<int>(rows.size());
  const Rows inner{inner_.in(frame.scratch), adapter.a->n()};
  const PackedRows packed = packer_.pack(frame, count, [&](int i) { return x.row(rows[i]); });
  multiply(frame.runtime,
           {.weights = adapter.a->matrix,
            .rows = packed,
            .out = inner.data,
            .out_stride = inner.width});
  for (const LowRankPart& part : adapter.parts) {
    const Rows product = product_of(frame, part, inner, count);
    for_rows(frame.runtime, count, product.width, [&](int i, unsigned) {
      frame.runtime.kernels.rows.accumulate(sums.row(rows[i]) + part.first, product.row(i),
                                            part.scale * multiplier, product.width);
    });
  }
}

Rows AdapterSum::product_of(const Frame& frame, const LowRankPart& part, Rows inner,
                            int count) const {
  const KernelTable& kernels = frame.runtime.kernels;
  const PackedRows packed =
      packed_rows(format_, count, part.b->k(), packed_.in(frame.scratch));
  for_rows(frame.runtime, count, part.b->k(), [&](int i, unsigned) {
    kernels.pack_row(inner.row(i) + part.inner, packed, i);
  });
  const Rows product{product_.in(frame.scratch), part.b->n()};
  multiply(frame.runtime,
           {.weights = part.b->matrix,
            .rows = packed,
            .out = product.data,
            .out_stride = product.width});
  return product;
}

}  // namespace vivace
