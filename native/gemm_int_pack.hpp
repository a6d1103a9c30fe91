// Packing of int8 and int4 panels, from floats (rounded to nearest, as formats/rounding.py does)
// or from codes.
#pragma once

#include "gemm_source.hpp"

namespace vivace::VIVACE_ISA {

// What a column's values are rounded to, in a group: stored = round(w / scale) + zero point, kept
// within [lowest, highest].
struct Grid {
  float scale = 0.0f;
  float zero_point = 0.0f;
  float lowest = 0.0f;
  float highest = 0.0f;

  // Every value over infinity is zero: a scale of zero gives zeros.
  float divisor() const { return scale > 0.0f ? scale : __builtin_inff(); }
};

struct ValueRange {
  float least;
  float greatest;
};

// Of zero and the values at depth [begin, end).
VIVACE_INLINE ValueRange range_of(const Column& column, int begin, int end) {
  V16 least = zero(), greatest = zero();
  for (int k = begin; k < end; k += 16) {
    const V16 x = load_column(column, k, end - k);
    least = min(least, x);
    greatest = max(greatest, x);
  }
  return {-reduce_max(negate(least)), reduce_max(greatest)};
}

VIVACE_INLINE float magnitude_of(const ValueRange& range) {
  return -range.least > range.greatest ? -range.least : range.greatest;
}

VIVACE_INLINE float as_f16(float x) {
  const std::uint16_t half = to_f16(x);
  return first_lane(load_f16_partial(&half, 1));
}

VIVACE_INLINE float round_within(float x, float lowest, float highest) {
  return first_lane(min(max(round(broadcast(x)), broadcast(lowest)), broadcast(highest)));
}

VIVACE_INLINE Grid int8_grid(const Column& column, int k) {
  Grid grid{.zero_point = 128.0f, .lowest = 1.0f, .highest = 255.0f};
  if (column.part == nullptr) return grid;
  if (column.is_float()) {
    grid.scale = magnitude_of(range_of(column, 0, k)) / 127.0f;
  } else {
    grid.scale = ((const float*)column.part->scales)[column.row];
  }
  return grid;
}

VIVACE_INLINE void round_grid(Grid& grid, const ValueRange& range, bool zero_points) {
  if (!zero_points) {
    grid.scale = as_f16(magnitude_of(range) / 7.5f);
    return;
  }
  grid.scale = as_f16((range.greatest - range.least) / 15.0f);
  grid.zero_point = round_within(-range.least / grid.divisor(), 0.0f, 15.0f);
}

VIVACE_INLINE Grid int4_grid(const Column& column, const PackedMatrix& matrix, int group) {
  const WeightFormat& format = matrix.format;
  Grid grid{.zero_point = format.zero_points ? 0.0f : 8.0f, .highest = 15.0f};
  if (column.part == nullptr) return grid;
  if (column.is_float()) {
    const int begin = group * format.group, end = begin + format.group;
    const ValueRange range = range_of(column, begin, end < matrix.k ? end : matrix.k);
    round_grid(grid, range, format.zero_points);
    return grid;
  }
  const std::int64_t at = std::int64_t(column.row) * units(matrix.k, format.group) + group;
  const std::uint16_t* scales = (const std::uint16_t*)column.part->scales;
  grid.scale = first_lane(load_f16_partial(scales + at, 1));
  if (format.zero_points) grid.zero_point = column.part->zero_points[at];
  return grid;
}

// Depth that is packed at a time: every group is a multiple of it.
constexpr int kPackDepth = 32;

// Stored codes of a column from depth k on, `left` of them real.
VIVACE_INLINE void encode_floats(const Column& column, const Grid& grid, int k, int left,
                                 std::uint8_t (&codes)[kPackDepth]) {
  const V16 divisor = broadcast(grid.divisor()), zero_point = broadcast(grid.zero_point);
  for (int i = 0; i < kPackDepth; i += 16) {
    const V16 code = round(load_column(column, k + i, left - i) / divisor) + zero_point;
    store_bytes(codes + i, min(max(code, broadcast(grid.lowest)), broadcast(grid.highest)));
  }
}

VIVACE_INLINE void copy_codes(const Column& column, int k, int count,
                              std::uint8_t (&codes)[kPackDepth]) {
  const std::uint8_t* from = column.codes(k);
  if (column.part->type == SourceType::int8) {
    for (int i = 0; i < count; ++i) codes[i] = from[i] ^ 0x80;
    return;
  }
  for (int i = 0; i < count; ++i) codes[i] = from[i / 2] >> (i % 2 * 4) & 15;
}

VIVACE_INLINE void encode(const Column& column, const Grid& grid, int k, int end,
                          std::uint8_t (&codes)[kPackDepth]) {
  const int left = end - k;
  if (column.part != nullptr && column.is_float()) {
    return encode_floats(column, grid, k, left, codes);
  }
  std::memset(codes, static_cast<int>(grid.zero_point), sizeof codes);
  if (column.part == nullptr || left <= 0) return;
  copy_codes(column, k, left < kPackDepth ? left : kPackDepth, codes);
}

// The first `count` words of each column, to [word][column].
template <int Words>
VIVACE_INLINE void put_words(const std::uint32_t (&words)[kPanelColumns][Words], int count,
                             char* to) {
  for (int w = 0; w < count; ++w) {
    for (int c = 0; c < kPanelColumns; ++c) {
      std::memcpy(to + (w * kPanelColumns + c) * 4, &words[c][w], 4);
    }
  }
}

static void pack_int8(const Column (&columns)[kPanelColumns], const PackedMatrix& matrix,
                      char* panel) {
  constexpr int kWords = kPackDepth / 4;
  const int total = panel_words(matrix.format, matrix.k);
  Grid grids[kPanelColumns];
  for (int c = 0; c < kPanelColumns; ++c) {
    grids[c] = int8_grid(columns[c], matrix.k);
    std::memcpy(panel + std::int64_t(total) * kPanelColumns * 4 + c * 4, &grids[c].scale, 4);
  }
  for (int first = 0; first < total; first += kWords) {
    alignas(kAlignment) std::uint32_t words[kPanelColumns][kWords];
    for (int c = 0; c < kPanelColumns; ++c) {
      std::uint8_t codes[kPackDepth];
      encode(columns[c], grids[c], first * 4, matrix.k, codes);
      std::memcpy(words[c], codes, sizeof codes);
    }
    put_words(words, kWords, panel + std::int64_t(first) * kPanelColumns * 4);
  }
}

// Codes of all columns from depth k on: columns 0 to 15 in low nibbles, the others in high ones.
VIVACE_INLINE void put_nibbles(const Column (&columns)[kPanelColumns],
                               const Grid (&grids)[kPanelColumns], int k, int end, char* to) {
  constexpr int kWords = kPackDepth / 4;
  for (int c = 0; c < 16; ++c) {
    std::uint8_t low[kPackDepth], high[kPackDepth];
    encode(columns[c], grids[c], k, end, low);
    encode(columns[c + 16], grids[c + 16], k, end, high);
    for (int i = 0; i < kPackDepth; ++i) low[i] = low[i] | high[i] << 4;
    for (int w = 0; w < kWords; ++w) std::memcpy(to + w * kNibbleStep + c * 4, low + 4 * w, 4);
  }
}

static void pack_int4(const Column (&columns)[kPanelColumns], const PackedMatrix& matrix,
                      char* panel) {
  const WeightFormat& format = matrix.format;
  const NibblePanel layout = nibble_panel(format, matrix.k);
  char* const zeros = panel + layout.zeros_offset();
  std::memset(zeros, 0, layout.bytes() - layout.zeros_offset());
  for (int g = 0; g < layout.groups; ++g) {
    char* const group = panel + g * layout.group_bytes;
    char* const scales = group + std::int64_t(format.group) / 4 * kNibbleStep;
    Grid grids[kPanelColumns];
    for (int c = 0; c < kPanelColumns; ++c) {
      grids[c] = int4_grid(columns[c], matrix, g);
      const std::uint16_t scale = to_f16(grids[c].scale);
      std::memcpy(scales + 2 * c, &scale, 2);
      if (format.zero_points) zeros[g * kPanelColumns + c] = char(grids[c].zero_point);
    }
    for (int k = 0; k < format.group; k += kPackDepth) {
      put_nibbles(columns, grids, g * format.group + k, matrix.k, group + k / 4 * kNibbleStep);
    }
  }
}

}  // namespace vivace::VIVACE_ISA
