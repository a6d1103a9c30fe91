// Weights as they come: rows of several parts, which are columns of panels.
#pragma once

#include "gemm_panels.hpp"

namespace vivace::VIVACE_ISA {

// A column of a panel; padding has no part.
struct Column {
  const WeightPart* part = nullptr;
  int row = 0;

  bool is_float() const {
    return part->type != SourceType::int8 && part->type != SourceType::int4;
  }
  // Stored codes from depth k on, an even one.
  const std::uint8_t* codes(int k) const {
    const int at = part->type == SourceType::int4 ? k / 2 : k;
    return (const std::uint8_t*)part->rows + row * part->row_stride + at;
  }
};

VIVACE_INLINE Column find_column(const WeightPart* parts, int num_parts, int column) {
  for (int p = 0; p < num_parts; ++p) {
    if (column < parts[p].num_rows) return {parts + p, column};
    column -= parts[p].num_rows;
  }
  return {};
}

// The first n floats of a column from depth k on, or sixteen if there are more; none if n is not
// positive.
VIVACE_INLINE V16 load_column(const Column& column, int k, int n) {
  if (n <= 0) return zero();
  const WeightPart& part = *column.part;
  const std::int64_t index = column.row * part.row_stride + k;
  if (part.type == SourceType::float32) return load_upto((const float*)part.rows + index, n);
  const std::uint16_t* half = (const std::uint16_t*)part.rows + index;
  const int count = n < 16 ? n : 16;
  return part.type == SourceType::float16 ? load_f16_partial(half, count)
                                          : load_bf16_partial(half, count);
}

}  // namespace vivace::VIVACE_ISA
