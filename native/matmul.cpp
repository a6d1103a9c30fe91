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

Claims panel_claims(const GemmTask& task) {
  // Below this many products a claim takes longer than it is worth; above `kMost` panels in order
  // prefetching gains nothing.
  constexpr std::int64_t kLeastProducts = 1 << 16;
  constexpr std::uint32_t kMost = 8;
  const std::int64_t products = std::int64_t(kPanelColumns) * task.rows.k * task.rows.m;
  const std::int64_t least = kLeastProducts / std::max<std::int64_t>(products, 1) + 1;
  return {std::uint32_t(least), std::max(std::uint32_t(least), kMost)};
}

void multiply(Runtime& runtime, const GemmTask& task) {
  runtime.pool.parallel_ranges(num_panels(task.weights), panel_claims(task),
                               [&](std::size_t begin, std::size_t end, unsigned) {
                                 runtime.kernels.gemm(task, int(begin), int(end));
                               });
}

}  // namespace vivace
