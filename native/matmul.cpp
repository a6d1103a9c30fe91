#include "matmul.hpp"

namespace vivace {

PackedRows packed_rows(const WeightFormat& format, int m, int k, void* data) {
  return {.kind = format.rows, .group = format.group, .m = m, .k = k, .data = data};
}

RowPacker::RowPacker(const OpContext& context, ScratchLayout& layout, const Linear& linear,
                     std::optional<Norm> norm, int max_rows)
    : format_(linear.matrix.format),
      width_(linear.k()),
      planes_(linear.matrix.planes),
      stride_(aligned(width_ * planes_ * 4) / 4),
      norm_(std::move(norm)) {
  require_shape(!norm_ || norm_->width() == width_, "a norm's gain and the rows it norms");
  packed_ = layout.take<char>(
      context.runtime.kernels.rows_bytes(packed_rows(format_, max_rows, width_ * planes_, nullptr)));
  if (norm_ || planes_ > 1) {
    prepared_ = layout.take<float>(stride_ * context.runtime.pool.threads());
  }
}

bool reads_weights_once(const GemmTask& task) {
  constexpr int kFewRows = 16;
  return task.rows.m <= kFewRows;
}

void multiply(Runtime& runtime, const GemmTask& task, const Reads& next) {
  for_panels(runtime, task, num_panels(task.weights), next, [&](int begin, int end) {
    runtime.kernels.gemm(task, begin, end);
  });
}

}  // namespace vivace
