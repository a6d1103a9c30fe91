// Packing of weights into panels.
#pragma once

#include "gemm_int_pack.hpp"

namespace vivace::VIVACE_ISA {

// Sixteen words of a column from depth k on, rounded to the panel's type.
VIVACE_INLINE void float_words(std::uint32_t* words, const PackedMatrix& matrix,
                               const Column& column, int k) {
  const int left = matrix.k - k;
  if (matrix.format.kind == WeightKind::float32) {
    return store((float*)words, load_column(column, k, left));
  }
  store_bf16((std::uint16_t*)words, load_column(column, k, left));
  store_bf16((std::uint16_t*)words + 16, load_column(column, k + 16, left - 16));
}

static void pack_floats(const Column (&columns)[kPanelColumns], const PackedMatrix& matrix,
                        char* panel) {
  const int total = panel_words(matrix.format, matrix.k);
  const int depth = matrix.format.kind == WeightKind::float32 ? 1 : 2;
  for (int first = 0; first < total; first += 16) {
    alignas(kAlignment) std::uint32_t words[kPanelColumns][16] = {};
    for (int c = 0; c < kPanelColumns; ++c) {
      if (columns[c].part == nullptr) continue;
      float_words(words[c], matrix, columns[c], first * depth);
    }
    const int left = total - first;
    put_words(words, left < 16 ? left : 16, panel + std::int64_t(first) * kPanelColumns * 4);
  }
}

static void pack_panels(const WeightPart* parts, int num_parts, const PackedMatrix& matrix,
                        int begin, int end) {
  const std::int64_t bytes = panel_bytes(matrix.format, matrix.k);
  for (int p = begin; p < end; ++p) {
    Column columns[kPanelColumns];
    for (int c = 0; c < kPanelColumns; ++c) {
      columns[c] = find_column(parts, num_parts, output_of(matrix, p * kPanelColumns + c));
    }
    char* const panel = (char*)matrix.panels + p * bytes;
    if (matrix.format.kind == WeightKind::int8) {
      pack_int8(columns, matrix, panel);
    } else if (matrix.format.kind == WeightKind::int4) {
      pack_int4(columns, matrix, panel);
    } else {
      pack_floats(columns, matrix, panel);
    }
  }
}

}  // namespace vivace::VIVACE_ISA
