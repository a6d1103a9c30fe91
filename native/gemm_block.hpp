// One row block times one panel: what every kind of product is made of.
#pragma once

#include "gemm_rows.hpp"

namespace vivace::VIVACE_ISA {

//   rows: this block's packed rows.
//   ahead, ahead_step: what to bring into cache meanwhile, bytes per step of the panel.
struct Block {
  const GemmTask* task;
  const char* rows;
  const char* panel;
  int panel_index;
  int first_row;
  int num_rows;
  const char* ahead;
  std::int64_t ahead_step;
};

// A tile of `Vectors` times sixteen columns from `vector` on.
template <class Step, int Rows, int Vectors>
VIVACE_INLINE TileOperands<Vectors> tile_operands(const char* rows, const void* panel,
                                                  int vector) {
  TileOperands<Vectors> at{rows, Step::kRowBytes, Rows * Step::kRowBytes, {}, kPanelColumns * 4};
  for (int v = 0; v < Vectors; ++v) {
    at.columns[v] = (const char*)panel + (vector + v) * kVectorBytes;
  }
  return at;
}

template <int Rows>
VIVACE_INLINE void clear(float (*sums)[kPanelColumns]) {
  for (int r = 0; r < Rows; ++r) {
    store(sums[r], zero());
    store(sums[r] + 16, zero());
  }
}

}  // namespace vivace::VIVACE_ISA
