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

int panels_per_item(const Runtime& runtime, int panels) {
  constexpr int kMost = 8, kItemsPerThread = 4;
  const int items = kItemsPerThread * static_cast<int>(runtime.pool.threads());
  return std::clamp(panels / items, 1, kMost);
}

void multiply(Runtime& runtime, const GemmTask& task) {
  // Below this many products the threads' news would take longer than the work.
  constexpr double kSmall = 1 << 15;
  const int panels = num_panels(task.weights);
  const double products = double(task.weights.n) * task.weights.k * task.rows.m;
  const int step = products < kSmall ? panels : panels_per_item(runtime, panels);
  const int items = (panels + step - 1) / step;
  runtime.pool.parallel_for(items, [&](std::size_t item, unsigned) {
    const int begin = static_cast<int>(item) * step;
    runtime.kernels.gemm(task, begin, std::min(begin + step, panels));
  });
}

}  // namespace vivace
