// What happens to a matmul's sums on their way to memory.
#pragma once

#include "kernels.hpp"
#include "simd.hpp"

namespace vivace::VIVACE_ISA {

VIVACE_INLINE V16 finish(const GemmTask& task, int row, int column, int n, V16 sum) {
  if (task.weights.bias != nullptr) sum = sum + load(task.weights.bias + column);
  if (task.residual == nullptr) return sum * broadcast(task.multiplier);
  const float* residual = task.residual + row * task.residual_stride + column;
  return fma(sum, broadcast(task.multiplier), load_partial(residual, n));
}

// Writes sixteen columns of one row, or as many as the matrix has.
VIVACE_INLINE void write_out(const GemmTask& task, int row, int column, V16 sum) {
  const int left = task.weights.n - column;
  if (left <= 0) return;
  const int n = left < 16 ? left : 16;
  float* out = task.out + row * task.out_stride + column;
  const V16 value = finish(task, row, column, n, sum);
  n == 16 ? store(out, value) : store_partial(out, value, n);
}

}  // namespace vivace::VIVACE_ISA
