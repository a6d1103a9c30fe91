#include "matmul.hpp"

namespace vivace {

PackedRows packed_rows(const WeightFormat& format, int m, int k, void* data) {
  return {.kind = format.rows, .group = format.group, .m = m, .k = k, .data = data};
}

RowPacker::RowPacker(const OpContext& context, ScratchLayout& layout, const Linear& linear,
                     std::optional<Norm> norm, int max_rows)
    : format_(linear.matrix.format),
      width_(linear.k()),
      stride_(aligned(width_ * 4) / 4),
      norm_(std::move(norm)) {
  require_shape(!norm_ || norm_->width() == width_, "a norm's gain and the rows it norms");
  packed_ = layout.take<char>(
      context.runtime.kernels.rows_bytes(packed_rows(format_, max_rows, width_, nullptr)));
  if (norm_) normed_ = layout.take<float>(stride_ * context.runtime.pool.threads());
}

Claims panel_claims(const Runtime& runtime, const GemmTask& task) {
  // Few rows wait for memory, and every claim breaks the stream that it is read in; many rows take
  // panels that stay in cache from one group of rows to the next.
  constexpr int kFewRows = 16;
  constexpr double kSmall = 1 << 15;  // products that take less time than a second thread's start
  constexpr std::uint32_t kMostPanels = 8;
  if (task.rows.m > kFewRows) return {1, kMostPanels};
  const std::uint32_t panels = num_panels(task.weights), threads = runtime.pool.threads();
  const bool small = double(task.weights.n) * task.rows.k * task.rows.m < kSmall;
  const std::uint32_t share = small ? std::max(panels, 1u) : (panels + threads - 1) / threads;
  return {share, share};
}

void multiply(Runtime& runtime, const GemmTask& task) {
  runtime.pool.parallel_ranges(num_panels(task.weights), panel_claims(runtime, task),
                               [&](std::size_t begin, std::size_t end, unsigned) {
                                 runtime.kernels.gemm(task, int(begin), int(end));
                               });
}

}  // namespace vivace
