// Packing: weights into panels, activations into row blocks.
#pragma once

#include "gemm_step.hpp"
#if defined(VIVACE_TILES)
#include "simd_tiles.hpp"
#endif

namespace vivace::VIVACE_ISA {

// How a level and dtype lay out the depth of rows, and how many rows stand interleaved.
struct RowLayout {
  int depth;      // depth of the unit that rows are interleaved by
  int unit_bytes; // one row's share of it
  int max_rows;
};

VIVACE_INLINE RowLayout row_layout(RowKind kind) {
  if (kind == RowKind::float32) return {1, Float32Step::kRowBytes, Float32Step::kMaxRows};
#if defined(VIVACE_TILES)
  return {kTileDepth, kTileRowBytes, kTileBlockRows};
#else
  return {BFloat16Step::kDepth, BFloat16Step::kRowBytes, BFloat16Step::kMaxRows};
#endif
}

VIVACE_INLINE int units(int k, int depth) { return (k + depth - 1) / depth; }

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

static std::size_t rows_bytes(const PackedRows& rows) {
  const RowLayout layout = row_layout(rows.kind);
  return std::size_t(rows.m) * units(rows.k, layout.depth) * layout.unit_bytes;
}

// The first n values at p, or sixteen if there are more; none if n is not positive.
VIVACE_INLINE V16 load_upto(const float* p, int n) {
  if (n >= 16) return load(p);
  return n > 0 ? load_partial(p, n) : zero();
}

VIVACE_INLINE void put_row(RowKind kind, char* row, int k, V16 values) {
  kind == RowKind::float32 ? Float32Step::put(row, k, values) : BFloat16Step::put(row, k, values);
}

// Copies whole units of a contiguous row to their places among the block's rows.
template <int UnitBytes>
VIVACE_INLINE void scatter_units(const char* from, char* to, int count, std::int64_t stride) {
  for (int u = 0; u < count; ++u) std::memcpy(to + u * stride, from + u * UnitBytes, UnitBytes);
}

// Packs row `row` of m rows of k values, laid out as `layout` says.
VIVACE_INLINE void pack_row_as(const RowLayout& layout, const float* values,
                               const PackedRows& rows, int row) {
  constexpr int kChunk = 32;
  const RowBlocks blocks = row_blocks(rows.m, layout.max_rows);
  const int block = blocks.of_row(row);
  const int begin = blocks.begin(block);
  const int total = units(rows.k, layout.depth);
  const int whole = kChunk / layout.depth;
  const std::int64_t stride = std::int64_t(blocks.begin(block + 1) - begin) * layout.unit_bytes;
  char* to = (char*)rows.data + (std::int64_t(begin) * total + row - begin) * layout.unit_bytes;
  for (int first = 0; first < total; first += whole) {
    alignas(kAlignment) char chunk[kChunk * 4];
    for (int half = 0; half < kChunk; half += 16) {
      const int k = first * layout.depth + half;
      put_row(rows.kind, chunk, half, load_upto(values + k, rows.k - k));
    }
    const int n = total - first < whole ? total - first : whole;
    char* target = to + first * stride;
    if (layout.unit_bytes == 4) scatter_units<4>(chunk, target, n, stride);
    if (layout.unit_bytes == 8) scatter_units<8>(chunk, target, n, stride);
    if (layout.unit_bytes == 64) scatter_units<64>(chunk, target, n, stride);
  }
}

static void pack_row(const float* values, const PackedRows& rows, int row) {
  pack_row_as(row_layout(rows.kind), values, rows, row);
}

// Depth of a panel in units of one word (4 bytes) per column.
VIVACE_INLINE int panel_words(const WeightFormat& format, int k) {
  if (format.kind == WeightKind::float32) return k;
  const int depth = row_layout(format.rows).depth;
  return units(k, depth) * depth / 2;
}

static std::size_t panel_bytes(const WeightFormat& format, int k) {
  return std::size_t(panel_words(format, k)) * kPanelColumns * 4;
}

VIVACE_INLINE V16 load_source(const WeightPart& part, std::int64_t index, int n) {
  if (n <= 0) return zero();
  const int count = n < 16 ? n : 16;
  if (part.type == SourceType::float32) {
    return load_partial((const float*)part.rows + index, count);
  }
  const std::uint16_t* half = (const std::uint16_t*)part.rows + index;
  return part.type == SourceType::float16 ? load_f16_partial(half, count)
                                          : load_bf16_partial(half, count);
}

// Sixteen words of one column from depth k on, rounded to the panel's type.
VIVACE_INLINE void column_words(std::uint32_t* words, const PackedMatrix& matrix,
                                const WeightPart& part, int row, int k) {
  const std::int64_t index = row * part.row_stride + k;
  if (matrix.format.kind == WeightKind::float32) {
    store((float*)words, load_source(part, index, matrix.k - k));
    return;
  }
  store_bf16((std::uint16_t*)words, load_source(part, index, matrix.k - k));
  store_bf16((std::uint16_t*)words + 16, load_source(part, index + 16, matrix.k - k - 16));
}

struct Column {
  const WeightPart* part = nullptr;
  int row = 0;
};

VIVACE_INLINE Column find_column(const WeightPart* parts, int num_parts, int column) {
  for (int p = 0; p < num_parts; ++p) {
    if (column < parts[p].num_rows) return {parts + p, column};
    column -= parts[p].num_rows;
  }
  return {};
}

static void pack_panel(const Column (&columns)[kPanelColumns], const PackedMatrix& matrix,
                       std::uint32_t* panel) {
  constexpr int kWords = 16;
  const int total = panel_words(matrix.format, matrix.k);
  const int depth = matrix.format.kind == WeightKind::float32 ? 1 : 2;
  for (int first = 0; first < total; first += kWords) {
    alignas(kAlignment) std::uint32_t words[kPanelColumns][kWords] = {};
    for (int c = 0; c < kPanelColumns; ++c) {
      if (columns[c].part == nullptr) continue;
      column_words(words[c], matrix, *columns[c].part, columns[c].row, first * depth);
    }
    const int n = total - first < kWords ? total - first : kWords;
    for (int w = 0; w < n; ++w) {
      for (int c = 0; c < kPanelColumns; ++c) panel[(first + w) * kPanelColumns + c] = words[c][w];
    }
  }
}

static void pack_panels(const WeightPart* parts, int num_parts, const PackedMatrix& matrix,
                        int begin, int end) {
  for (int p = begin; p < end; ++p) {
    Column columns[kPanelColumns];
    for (int c = 0; c < kPanelColumns; ++c) {
      columns[c] = find_column(parts, num_parts, output_of(matrix, p * kPanelColumns + c));
    }
    pack_panel(columns, matrix,
               (std::uint32_t*)((char*)matrix.panels + p * panel_bytes(matrix.format, matrix.k)));
  }
}

}  // namespace vivace::VIVACE_ISA
