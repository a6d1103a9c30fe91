// A mixture of expert MLPs. Rows are grouped by expert: each expert's weights are read once.
#include <cstring>

#include "matmul.hpp"
#include "ops.hpp"

namespace vivace {
namespace {

// One expert and the places [begin, begin + rows) of what was routed to it.
struct Group {
  int expert;
  int begin;
  int rows;
};

// Every (row, rank) pair of the router has one place; places are ordered by expert.
struct Routing {
  std::int32_t* chosen;    // [rows][top_k] experts
  float* weights;          // [rows][top_k]
  std::int32_t* place;     // [rows][top_k]
  std::int32_t* row_at;    // [places]
  std::int32_t* group_at;  // [places]
  Group* groups;
  int* filled;  // [experts], where an expert's next place is
  int num_groups;
};

class ExpertsResidual final : public Op {
 public:
  ExpertsResidual(const OpContext& context, Rows x, const std::optional<Norm>& norm,
                  const ExpertsOp& op, const Residual& residual, Rows out)
      : x_(x),
        norm_(norm),
        op_(op),
        residual_(residual),
        out_(out),
        num_experts_(static_cast<int>(op.up.size())),
        router_(context, layout_, *op.router, std::nullopt, context.max_rows) {
    check_shapes();
    const std::size_t rows = context.max_rows, places = rows * op.top_k;
    normed_ = layout_.take<float>(rows * x.width);
    logits_ = layout_.take<float>(rows * num_experts_);
    chosen_ = layout_.take<std::int32_t>(places);
    weights_ = layout_.take<float>(places);
    place_ = layout_.take<std::int32_t>(places);
    row_at_ = layout_.take<std::int32_t>(places);
    group_at_ = layout_.take<std::int32_t>(places);
    groups_ = layout_.take<Group>(num_experts_);
    filled_ = layout_.take<int>(num_experts_);
    inner_ = layout_.take<float>(places * inner_width());
    down_ = layout_.take<float>(places * out.width);
    packed_ = layout_.take<char>(most_packed(context, places));
    rows_ = layout_.take<PackedRows>(num_experts_);
  }

  void run(const Frame& frame) const override {
    const int rows = frame.batch.rows();
    const Rows x = normed_rows(frame, rows);
    const Routing routing = route(frame, x, rows);
    const int places = rows * op_.top_k;
    const Rows inner{inner_.in(frame.scratch), inner_width()};
    const Rows down{down_.in(frame.scratch), out_.width};

    lay_out(frame, routing, *op_.up[0]);
    for_rows(frame.runtime, places, x.width, [&](int place, unsigned) {
      pack(frame, routing, place, x.row(routing.row_at[place]));
    });
    multiply_groups(frame, routing, op_.up, inner, &op_.activation);

    lay_out(frame, routing, *op_.down[0]);
    for_rows(frame.runtime, places, inner.width, [&](int place, unsigned) {
      pack(frame, routing, place, inner.row(place));
    });
    multiply_groups(frame, routing, op_.down, down, nullptr);
    for_rows(frame.runtime, rows, out_.width * op_.top_k, [&](int row, unsigned) {
      combine(frame, routing, down, row);
    });
  }

 private:
  int inner_width() const { return op_.down[0]->k(); }

  void check_shapes() const {
    require_shape(num_experts_ > 0 && op_.down.size() == op_.up.size(), "experts' halves");
    require_shape(op_.top_k >= 1 && op_.top_k <= num_experts_, "top_k and the experts");
    require_shape(op_.router->k() == x_.width && op_.router->n() == num_experts_, "the router");
    require_shape(!norm_ || norm_->width() == x_.width, "a norm's gain and the rows it norms");
    require_shape(residual_.into.width == out_.width, "a residual");
    require_shape(!residual_.post_norm || residual_.post_norm->width() == out_.width,
                  "a post-norm");
    const int factor = op_.activation.gated ? 2 : 1;
    for (int expert = 0; expert < num_experts_; ++expert) {
      const Linear &up = *op_.up[expert], &down = *op_.down[expert];
      require_shape(up.matrix.format == op_.up[0]->matrix.format &&
                        down.matrix.format == op_.down[0]->matrix.format,
                    "the formats of experts, which share their packed rows");
      require_shape(up.matrix.gated == op_.activation.gated, "gated weights and their activation");
      require_shape(up.matrix.planes * down.matrix.planes == 1, "an expert's one plane");
      require_shape(up.k() == x_.width && up.n() == factor * inner_width(), "an expert's inputs");
      require_shape(down.k() == inner_width() && down.n() == out_.width, "an expert's outputs");
    }
  }

  // Each group may pad its rows, by less than one row's own packed size.
  std::size_t most_packed(const OpContext& context, std::size_t places) const {
    const auto bytes = [&](const Linear& linear) {
      const auto rows_bytes = [&](std::size_t rows) {
        return context.runtime.kernels.rows_bytes(packed_rows(
            linear.matrix.format, static_cast<int>(rows), linear.k(), nullptr));
      };
      return rows_bytes(places) + num_experts_ * aligned(rows_bytes(1));
    };
    return std::max(bytes(*op_.up[0]), bytes(*op_.down[0]));
  }

  Rows normed_rows(const Frame& frame, int rows) const {
    if (!norm_) return x_;
    const Rows normed{normed_.in(frame.scratch), x_.width};
    for_rows(frame.runtime, rows, x_.width, [&](int row, unsigned) {
      frame.runtime.kernels.rows.normalize(x_.row(row), norm_->task(), normed.row(row));
    });
    return normed;
  }

  Routing route(const Frame& frame, Rows x, int rows) const {
    char* const scratch = frame.scratch;
    Routing routing{chosen_.in(scratch), weights_.in(scratch),  place_.in(scratch),
                    row_at_.in(scratch), group_at_.in(scratch), groups_.in(scratch),
                    filled_.in(scratch), 0};
    const Rows logits{logits_.in(scratch), num_experts_};
    const PackedRows packed = router_.pack(frame, rows, [&](int row) { return x.row(row); });
    multiply(frame.runtime, {.weights = op_.router->matrix,
                             .rows = packed,
                             .out = logits.data,
                             .out_stride = logits.width});
    for_rows(frame.runtime, rows, num_experts_, [&](int row, unsigned) {
      const int first = row * op_.top_k;
      frame.runtime.kernels.rows.route(logits.row(row), num_experts_, op_.top_k, op_.renormalize,
                                       routing.chosen + first, routing.weights + first);
    });
    group(routing, rows);
    return routing;
  }

  // A counting sort of the (row, rank) pairs by expert.
  void group(Routing& routing, int rows) const {
    const int places = rows * op_.top_k;
    std::memset(routing.filled, 0, sizeof(int) * num_experts_);
    for (int pair = 0; pair < places; ++pair) ++routing.filled[routing.chosen[pair]];
    for (int expert = 0, begin = 0; expert < num_experts_; ++expert) {
      const int count = routing.filled[expert];
      if (count == 0) continue;
      std::fill_n(routing.group_at + begin, count, routing.num_groups);
      routing.groups[routing.num_groups++] = {expert, begin, count};
      routing.filled[expert] = begin;
      begin += count;
    }
    for (int pair = 0; pair < places; ++pair) {
      routing.place[pair] = routing.filled[routing.chosen[pair]]++;
      routing.row_at[routing.place[pair]] = pair / op_.top_k;
    }
  }

  // Gives each group its part of the packed rows.
  void lay_out(const Frame& frame, const Routing& routing, const Linear& linear) const {
    PackedRows* const rows = rows_.in(frame.scratch);
    std::size_t offset = 0;
    for (int i = 0; i < routing.num_groups; ++i) {
      rows[i] = packed_rows(linear.matrix.format, routing.groups[i].rows, linear.k(),
                            packed_.in(frame.scratch) + offset);
      offset += aligned(frame.runtime.kernels.rows_bytes(rows[i]));
    }
  }

  void pack(const Frame& frame, const Routing& routing, int place, const float* values) const {
    const int group = routing.group_at[place];
    const int row = place - routing.groups[group].begin;
    frame.runtime.kernels.pack_row(values, rows_.in(frame.scratch)[group], row);
  }

  // One parallel loop over the panels of all experts that have rows.
  void multiply_groups(const Frame& frame, const Routing& routing,
                       const std::vector<LinearPtr>& linears, Rows out,
                       const ActivationTask* activation) const {
    if (routing.num_groups == 0) return;
    const PackedRows* const rows = rows_.in(frame.scratch);
    const int panels = num_panels(linears[0]->matrix);
    const auto task_of = [&](int group) {
      return GemmTask{.weights = linears[routing.groups[group].expert]->matrix,
                      .rows = rows[group],
                      .out = out.row(routing.groups[group].begin),
                      .out_stride = out.width,
                      .activation = activation};
    };
    const auto multiply_panels = [&](int begin, int end) {
      for (int at = begin; at < end;) {
        const int first = at % panels, last = std::min(panels, first + end - at);
        frame.runtime.kernels.gemm(task_of(at / panels), first, last);
        at += last - first;
      }
    };
    for_panels(frame.runtime, task_of(0), panels * routing.num_groups, {}, multiply_panels);
  }

  // Sums a row's experts from the likeliest down, whatever place they have.
  void combine(const Frame& frame, const Routing& routing, Rows down, int row) const {
    const RowKernels& kernels = frame.runtime.kernels.rows;
    const std::int32_t* const places = routing.place + row * op_.top_k;
    const float* const weights = routing.weights + row * op_.top_k;
    float* const sum = down.row(places[0]);
    kernels.cap(sum, weights[0], 0.0f, out_.width);
    for (int rank = 1; rank < op_.top_k; ++rank) {
      kernels.accumulate(sum, down.row(places[rank]), weights[rank], out_.width);
    }
    if (residual_.post_norm) kernels.normalize(sum, residual_.post_norm->task(), sum);
    kernels.add(residual_.into.row(row), sum, residual_.multiplier, out_.width, out_.row(row));
  }

  Rows x_;
  std::optional<Norm> norm_;
  ExpertsOp op_;
  Residual residual_;
  Rows out_;
  int num_experts_;
  RowPacker router_;
  Scratch<float> normed_, logits_, weights_, inner_, down_;
  Scratch<std::int32_t> chosen_, place_, row_at_, group_at_;
  Scratch<Group> groups_;
  Scratch<int> filled_;
  Scratch<char> packed_;
  Scratch<PackedRows> rows_;
};

}  // namespace

OpPtr make_experts_residual(const OpContext& context, Rows x, const std::optional<Norm>& norm,
                            const ExpertsOp& op, const Residual& residual, Rows out) {
  return std::make_unique<ExpertsResidual>(context, x, norm, op, residual, out);
}

}  // namespace vivace
