#include "adapters.hpp"

#include <algorithm>

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
    : linear_(linear), norm_(norm), format_(float_format(context.dtype)) {
  if (!has_room()) return;
  const std::size_t threads = context.runtime.pool.threads(), rows = threads * kAdapterRows;
  const auto bytes = [&](int k) {
    return aligned(context.runtime.kernels.rows_bytes(
        {.kind = format_.rows, .m = kAdapterRows, .k = k}));
  };
  row_bytes_ = bytes(linear->k());
  inner_bytes_ = bytes(linear->adapter_rank);
  stride_ = aligned(linear->k() * sizeof(float)) / sizeof(float);
  packed_rows_ = layout.take<char>(threads * row_bytes_);
  packed_inner_ = layout.take<char>(threads * inner_bytes_);
  if (norm_) normed_ = layout.take<float>(threads * stride_);
  inner_ = layout.take<float>(rows * linear->adapter_rank);
  product_ = layout.take<float>(rows * linear->n());
}

bool AdapterSum::applies(const Frame& frame) const {
  if (!has_room()) return false;
  return std::any_of(frame.adapters.begin(), frame.adapters.end(),
                     [&](const AdapterRows& some) { return linear_->adapter(some.slot) != nullptr; });
}

bool AdapterSum::applies(const Frame& frame, int row) const {
  const int slot = frame.batch.adapter_ids[row];
  return slot > 0 && linear_->adapter(slot) != nullptr;
}

void AdapterSum::narrow(BatchBounds& bounds) const {
  bounds.adapter_slots = std::max(bounds.adapter_slots, int(linear_->adapters.size()));
}

PackedRows AdapterSum::packed(const Work& work, Scratch<char> from, std::size_t bytes,
                              int k) const {
  return {.kind = format_.rows,
          .m = work.count(),
          .k = k,
          .data = from.in(work.frame.scratch) + work.thread * bytes};
}

void AdapterSum::add_some(const Work& work, Rows x, Rows sums, float multiplier) const {
  const Rows inner = inner_of(work, x);
  for (const LowRankPart& part : work.adapter.parts) {
    add_part(work, part, inner, sums, part.scale * multiplier);
  }
}

Rows AdapterSum::inner_of(const Work& work, Rows x) const {
  const KernelTable& kernels = work.kernels();
  const PackedRows rows = packed(work, packed_rows_, row_bytes_, linear_->k());
  float* const normed =
      norm_ ? normed_.in(work.frame.scratch) + work.thread * stride_ : nullptr;
  for (int i = 0; i < work.count(); ++i) {
    const float* values = x.row(work.rows[i]);
    if (norm_) kernels.rows.normalize(values, norm_->task(), normed);
    kernels.pack_row(norm_ ? normed : values, rows, i);
  }
  const std::size_t before = std::size_t(work.thread) * kAdapterRows * linear_->adapter_rank;
  const Rows inner{inner_.in(work.frame.scratch) + before, work.adapter.a->n()};
  const PackedMatrix& a = work.adapter.a->matrix;
  kernels.gemm({.weights = a, .rows = rows, .out = inner.data, .out_stride = inner.width}, 0,
               num_panels(a));
  return inner;
}

// Rows that stand together are added to where they are; others by way of their product. Both are
// one fused multiply-add.
void AdapterSum::add_part(const Work& work, const LowRankPart& part, Rows inner, Rows sums,
                          float factor) const {
  const KernelTable& kernels = work.kernels();
  const PackedMatrix& b = part.b->matrix;
  const PackedRows rows = packed(work, packed_inner_, inner_bytes_, b.k);
  for (int i = 0; i < work.count(); ++i) kernels.pack_row(inner.row(i) + part.inner, rows, i);
  if (work.rows.back() - work.rows.front() + 1 == work.count()) {
    float* const out = sums.row(work.rows.front()) + part.first;
    return kernels.gemm({.weights = b,
                         .rows = rows,
                         .out = out,
                         .out_stride = sums.width,
                         .residual = out,
                         .residual_stride = sums.width,
                         .multiplier = factor},
                        0, num_panels(b));
  }
  const std::size_t before = std::size_t(work.thread) * kAdapterRows * linear_->n();
  const Rows product{product_.in(work.frame.scratch) + before, b.n};
  kernels.gemm({.weights = b, .rows = rows, .out = product.data, .out_stride = product.width}, 0,
               num_panels(b));
  for (int i = 0; i < work.count(); ++i) {
    kernels.rows.accumulate(sums.row(work.rows[i]) + part.first, product.row(i), factor, b.n);
  }
}

}  // namespace vivace
