// What happens to a matmul's sums on their way to memory.
#pragma once

#include "activation_impl.hpp"
#include "gemm_rows.hpp"

namespace vivace::VIVACE_ISA {

// Sixteen outputs, or fewer at the matrix's end.
struct OutputSpan {
  int begin;
  int count;
};

VIVACE_INLINE OutputSpan span_of(int begin, int end) {
  const int left = end - begin;
  return {begin, left < 16 ? left : 16};
}

VIVACE_INLINE void write_span(const GemmTask& task, int row, OutputSpan span, V16 sum) {
  if (span.count <= 0) return;
  float* const out = task.out + row * task.out_stride + span.begin;
  V16 value = sum * broadcast(task.multiplier);
  if (task.residual != nullptr) {
    const float* residual = task.residual + row * task.residual_stride + span.begin;
    value = fma(sum, broadcast(task.multiplier), load_partial(residual, span.count));
  }
  span.count == 16 ? store(out, value) : store_partial(out, value, span.count);
}

// A gated panel's halves are gates and what they gate.
VIVACE_INLINE void write_gated(const GemmTask& task, int panel, int row, V16 gate, V16 up) {
  const int half = task.weights.n / 2;
  if (task.activation != nullptr) {
    const V16 product = activated(*task.activation, gate, up);
    return write_span(task, row, span_of(16 * panel, half), product);
  }
  write_span(task, row, span_of(16 * panel, half), gate);
  write_span(task, row, span_of(half + 16 * panel, task.weights.n), up);
}

VIVACE_INLINE void write_plain(const GemmTask& task, int panel, int row, V16 low, V16 high) {
  if (task.activation != nullptr) {
    low = activated(*task.activation, low, broadcast(1.0f));
    high = activated(*task.activation, high, broadcast(1.0f));
  }
  const int column = kPanelColumns * panel;
  write_span(task, row, span_of(column, task.weights.n), low);
  write_span(task, row, span_of(column + 16, task.weights.n), high);
}

// Begins to fetch the lines that write_sums will write: rows are far apart, so that each of them
// would wait for memory.
VIVACE_INLINE void expect_sums(const GemmTask& task, int panel, int first_row, int count) {
  const int columns = task.weights.gated ? 16 : kPanelColumns;
  for (int r = 0; r < count; ++r) {
    const float* const out = task.out + (first_row + r) * task.out_stride + columns * panel;
    for (int c = 0; c < columns; c += 16) prefetch(out + c);
  }
}

// Writes a panel's columns of rows [first_row, first_row + count), from their sums of products.
static void write_sums(const GemmTask& task, int panel, int first_row, int count,
                       const float (*sums)[kPanelColumns]) {
  const bool scaled = task.rows.kind == RowKind::int8;
  const float* const scales = scaled ? row_sums(task.rows).scales : nullptr;
  for (int r = 0; r < count; ++r) {
    const int row = first_row + r;
    V16 low = load(sums[r]), high = load(sums[r] + 16);
    if (scaled) {
      low = low * broadcast(scales[row]);
      high = high * broadcast(scales[row]);
    }
    if (task.weights.bias != nullptr) {
      low = low + load(task.weights.bias + kPanelColumns * panel);
      high = high + load(task.weights.bias + kPanelColumns * panel + 16);
    }
    if (task.weights.gated) {
      write_gated(task, panel, row, low, high);
    } else {
      write_plain(task, panel, row, low, high);
    }
  }
}

}  // namespace vivace::VIVACE_ISA
