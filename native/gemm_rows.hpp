// Packing of activations into row blocks.
#pragma once

#include "gemm_step.hpp"
#if defined(VIVACE_TILES)
#include "simd_tiles.hpp"
#endif

namespace vivace::VIVACE_ISA {

VIVACE_INLINE int units(int k, int depth) { return (k + depth - 1) / depth; }
VIVACE_INLINE std::int64_t whole_lines(std::int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// How a level lays out the depth of rows, and how many rows stand interleaved.
struct RowLayout {
  int depth;       // depth of the unit that rows are interleaved by
  int unit_bytes;  // one row's share of it
  int max_rows;
};

template <class Step>
static constexpr RowLayout step_layout(int max_rows) {
  return {Step::kDepth, Step::kRowBytes, max_rows};
}

// Whether rows are multiplied on tiles. One kernel serves every number of rows, except few int8
// rows, whose sums are exact.
VIVACE_INLINE bool on_tiles([[maybe_unused]] RowKind kind, [[maybe_unused]] int group,
                            [[maybe_unused]] int m) {
#if defined(VIVACE_TILES)
  if (kind == RowKind::int8) return m >= (group == 0 ? kLeastTileCodes : kLeastTileNibbles);
  return kind == RowKind::bfloat16;
#else
  return false;
#endif
}

VIVACE_INLINE RowLayout row_layout(RowKind kind, int group, [[maybe_unused]] int m) {
#if defined(VIVACE_TILES)
  if (on_tiles(kind, group, m)) {
    return {kind == RowKind::int8 ? kTileCodes : kTileDepth, kTileRowBytes, kTileBlockRows};
  }
#endif
  if (kind == RowKind::float32) return step_layout<Float32Step>(kFloat32Rows);
  if (kind == RowKind::int8) return step_layout<CodeStep>(group == 0 ? kInt8Rows : kInt4Rows);
  if (group > 0) return step_layout<WideStep>(kWideRows);
  return step_layout<BFloat16Step>(kBFloat16Rows);
}

// The depth that rows are padded to: integer weights are stored in whole groups.
VIVACE_INLINE int row_depth(const PackedRows& rows) {
  constexpr int kWholeTile = 64;
  const int grouped = rows.group > 0 ? units(rows.k, rows.group) * rows.group : rows.k;
  if (rows.kind == RowKind::int8) return units(grouped, kWholeTile) * kWholeTile;
  const int depth = row_layout(rows.kind, rows.group, rows.m).depth;
  return units(grouped, depth) * depth;
}

// Rows split as evenly as blocks of at most max_rows allow. Block b is [begin(b), begin(b + 1)),
// laid out [unit][row of the block][unit_bytes].
struct RowBlocks {
  int m;
  int count;

  int begin(int block) const { return int(std::int64_t(block) * m / count); }
  int of_row(int row) const { return int((std::int64_t(row + 1) * count - 1) / m); }
};

VIVACE_INLINE RowBlocks row_blocks(int m, int max_rows) {
  return {m, (m + max_rows - 1) / max_rows};
}

// Bytes that one row takes in its block.
VIVACE_INLINE std::int64_t row_bytes(const PackedRows& rows) {
  const RowLayout layout = row_layout(rows.kind, rows.group, rows.m);
  return std::int64_t(row_depth(rows)) / layout.depth * layout.unit_bytes;
}

// What stands behind the codes of int8 rows: [m] scales, then where the sums of a block's rows
// start, [group][row of the block]: minus the sum of a row's codes times 128, or times 8 in
// groups, which takes the offset of stored weights away.
struct RowSums {
  float* scales;
  std::int32_t* starts;
  int groups;

  std::int32_t* of_block(int first_row) const { return starts + std::int64_t(first_row) * groups; }
};

// Groups of a padded row, which may be more than the weights'.
VIVACE_INLINE int row_groups(const PackedRows& rows) {
  return rows.group > 0 ? row_depth(rows) / rows.group : 1;
}

VIVACE_INLINE RowSums row_sums(const PackedRows& rows) {
  char* const scales = (char*)rows.data + rows.m * row_bytes(rows);
  return {(float*)scales, (std::int32_t*)(scales + whole_lines(rows.m * 4)), row_groups(rows)};
}

static std::size_t rows_bytes(const PackedRows& rows) {
  const std::int64_t values = rows.m * row_bytes(rows);
  if (rows.kind != RowKind::int8) return values;
  return values + whole_lines(rows.m * 4) + std::int64_t(rows.m) * row_groups(rows) * 4;
}

// The first n values at p, or sixteen if there are more; none if n is not positive.
VIVACE_INLINE V16 load_upto(const float* p, int n) {
  if (n >= 16) return load(p);
  return n > 0 ? load_partial(p, n) : zero();
}

// Copies whole units of a contiguous row to their places among the block's rows.
template <int UnitBytes>
VIVACE_INLINE void scatter_units(const char* from, char* to, int count, std::int64_t stride) {
  for (int u = 0; u < count; ++u) std::memcpy(to + u * stride, from + u * UnitBytes, UnitBytes);
}

// A row's places in its block.
struct RowPlace {
  char* first;
  std::int64_t stride;  // bytes from unit to unit
  RowLayout layout;
  int block_begin;
  int block_rows;

  void put(const char* chunk, int k, int depth) const {
    const int count = depth / layout.depth;
    char* const to = first + k / layout.depth * stride;
    if (layout.unit_bytes == 4) scatter_units<4>(chunk, to, count, stride);
    if (layout.unit_bytes == 8) scatter_units<8>(chunk, to, count, stride);
    if (layout.unit_bytes == 16) scatter_units<16>(chunk, to, count, stride);
    if (layout.unit_bytes == 64) scatter_units<64>(chunk, to, count, stride);
  }
};

VIVACE_INLINE RowPlace place_of(const RowLayout& layout, const PackedRows& rows, int depth,
                                int row) {
  const RowBlocks blocks = row_blocks(rows.m, layout.max_rows);
  const int block = blocks.of_row(row);
  const int begin = blocks.begin(block);
  const int count = blocks.begin(block + 1) - begin;
  const std::int64_t bytes = std::int64_t(depth) / layout.depth * layout.unit_bytes;
  char* const first = (char*)rows.data + begin * bytes + (row - begin) * layout.unit_bytes;
  return {first, std::int64_t(count) * layout.unit_bytes, layout, begin, count};
}

// Depth that is packed at a time, and the bytes it takes at most: any unit and group divides it
// or is a multiple of it.
constexpr int kRowChunk = 64;
constexpr int kRowChunkBytes = 4 * kRowChunk;

template <class Step>
VIVACE_INLINE void pack_values(const RowLayout& layout, const float* values,
                               const PackedRows& rows, int depth, int row) {
  const RowPlace place = place_of(layout, rows, depth, row);
  for (int first = 0; first < depth; first += kRowChunk) {
    alignas(kAlignment) char chunk[kRowChunkBytes];
    const int left = depth - first;
    const int here = left < kRowChunk ? left : kRowChunk;
    for (int k = 0; k < here; k += 16) {
      Step::put(chunk, k, load_upto(values + first + k, rows.k - first - k));
    }
    place.put(chunk, first, here);
  }
}

// Packs row `row` of m rows of k floating-point values, laid out as `layout` says.
VIVACE_INLINE void pack_row_as(const RowLayout& layout, const float* values,
                               const PackedRows& rows, int row) {
  const int depth = rows.group > 0 ? row_depth(rows) : units(rows.k, layout.depth) * layout.depth;
  if (rows.kind == RowKind::float32) {
    return pack_values<Float32Step>(layout, values, rows, depth, row);
  }
  pack_values<BFloat16Step>(layout, values, rows, depth, row);
}

// The largest magnitude; not a number where one of them is not finite.
VIVACE_INLINE float magnitude_of(const float* values, int k) {
  V16 largest = zero(), poison = zero();
  for (int i = 0; i < k; i += 16) {
    const V16 x = load_upto(values + i, k - i);
    largest = max(largest, abs(x));
    poison = fma(x, zero(), poison);
  }
  return reduce_max(largest) + reduce_add(poison);
}

// Depth that is quantized at a time: every group is a multiple of it.
constexpr int kSumDepth = 32;

// Puts the codes of the first n values (at most kSumDepth) from depth k of a chunk on, and adds
// them up.
VIVACE_INLINE float quantize(const float* values, int n, V16 factor, char* chunk, int k) {
  V16 sum = zero();
  for (int i = 0; i < kSumDepth; i += 16) {
    // What is not a number becomes one here; the row's scale tells.
    const V16 codes = max(round(load_upto(values + i, n - i) * factor), broadcast(-127.0f));
    CodeStep::put(chunk, k + i, codes);
    sum = sum + codes;
  }
  return reduce_add(sum);
}

static void pack_codes(const float* values, const PackedRows& rows, int row) {
  const int depth = row_depth(rows);
  const RowPlace place = place_of(row_layout(rows.kind, rows.group, rows.m), rows, depth, row);
  const RowSums sums = row_sums(rows);
  const float magnitude = magnitude_of(values, rows.k);
  const bool vanishes = magnitude < kSilent;
  sums.scales[row] = vanishes ? 0.0f : magnitude / 127.0f;
  const V16 factor = broadcast(vanishes ? 0.0f : 127.0f / magnitude);
  std::int32_t* start = sums.of_block(place.block_begin) + row - place.block_begin;
  const int offset = rows.group > 0 ? 8 : 128;
  const int group = rows.group > 0 ? rows.group : depth;
  float total = 0.0f;  // of whole numbers, exact below 2^24
  alignas(kAlignment) char chunk[kRowChunkBytes];
  for (int k = 0; k < depth; k += kSumDepth) {
    total += quantize(values + k, rows.k - k, factor, chunk, k % kRowChunk);
    if ((k + kSumDepth) % kRowChunk == 0) place.put(chunk, k + kSumDepth - kRowChunk, kRowChunk);
    if ((k + kSumDepth) % group != 0) continue;
    *start = -offset * static_cast<int>(total);
    start += place.block_rows;
    total = 0.0f;
  }
}

static void pack_row(const float* values, const PackedRows& rows, int row) {
  if (rows.kind == RowKind::int8) return pack_codes(values, rows, row);
  const RowLayout layout = row_layout(rows.kind, rows.group, rows.m);
  if (rows.group > 0 && !on_tiles(rows.kind, rows.group, rows.m)) {
    return pack_values<WideStep>(layout, values, rows, row_depth(rows), row);
  }
  pack_row_as(layout, values, rows, row);
}

}  // namespace vivace::VIVACE_ISA
