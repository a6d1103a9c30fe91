// bfloat16 matmul on AMX tiles: blocks of up to 32 rows times panels of 32 columns. The same
// instructions serve every number of rows, one too, so a row's result is always the same.
#pragma once

#include "gemm_epilogue.hpp"
#include "gemm_pack.hpp"
#include "simd_tiles.hpp"

namespace vivace::VIVACE_ISA {

// Rows taken together through all panels (see gemm_impl.hpp; machines with tiles have at least
// 2 MiB of second-level cache), and how far ahead a lone row block reads its panel.
constexpr int kTileGroupValues = 256 * 1024;
constexpr int kLeastTileGroup = 96;
constexpr std::int64_t kTileStreamAhead = 4096;

// Tiles 0 and 1 hold the sums of the first sixteen rows, 2 and 3 those of the rest; 4 and 5 the
// rows, 6 and 7 the columns.
VIVACE_INLINE void configure_gemm(int rows) {
  const int top = rows < kTileRows ? rows : kTileRows;
  const int bottom = rows - top > 0 ? rows - top : 1;
  TileConfig config;
  for (const int tile : {0, 1, 4}) config.shape(tile, top, kTileRowBytes);
  for (const int tile : {2, 3, 5}) config.shape(tile, bottom, kTileRowBytes);
  for (const int tile : {6, 7}) config.shape(tile, kTileRows, kTileRowBytes);
  configure_tiles(config);
}

// One row block times one panel.
struct TileBlock {
  const char* rows;
  int num_rows;
  const char* panel;
  int steps;
  const char* ahead;  // what to bring into cache meanwhile
  int ahead_lines;    // cache lines per step
};

template <bool TwoTiles>
VIVACE_INLINE void multiply_tiles(const TileBlock& block, float (*sums)[kPanelColumns]) {
  constexpr int kPanelStep = kTileDepth / 2 * kPanelColumns * 4;
  const std::int64_t row_step = std::int64_t(block.num_rows) * kTileRowBytes;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int s = 0; s < block.steps; ++s) {
    const char* columns = block.panel + std::int64_t(s) * kPanelStep;
    const char* rows = block.rows + s * row_step;
    const char* ahead = block.ahead + std::int64_t(s) * block.ahead_lines * 64;
    _tile_loadd(6, columns, kPanelColumns * 4);
    _tile_loadd(4, rows, kTileRowBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, columns + 64, kPanelColumns * 4);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (TwoTiles) {
      _tile_loadd(5, rows + kTileRows * kTileRowBytes, kTileRowBytes);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    for (int line = 0; line < block.ahead_lines; ++line) prefetch(ahead + line * 64);
  }
  constexpr int kStride = kPanelColumns * sizeof(float);
  _tile_stored(0, sums[0], kStride);
  _tile_stored(1, sums[0] + 16, kStride);
  if constexpr (TwoTiles) {
    _tile_stored(2, sums[kTileRows], kStride);
    _tile_stored(3, sums[kTileRows] + 16, kStride);
  }
}

VIVACE_INLINE void gemm_tile_block(const GemmTask& task, const TileBlock& block, int first_row,
                                   int panel) {
  alignas(kAlignment) float sums[kTileBlockRows][kPanelColumns];
  if (block.num_rows > kTileRows) {
    multiply_tiles<true>(block, sums);
  } else {
    multiply_tiles<false>(block, sums);
  }
  write_sums(task, panel, first_row, block.num_rows, sums);
}

// Row blocks [first, last) times panels [begin, end). A lone block prefetches its own stream;
// several share out the next panel.
static void gemm_tile_group(const GemmTask& task, const RowBlocks& blocks, int first, int last,
                            int begin, int end) {
  constexpr int kLines = kTileDepth / 2 * kPanelColumns * 4 / 64;
  const int steps = units(task.rows.k, kTileDepth);
  const std::int64_t bytes = panel_bytes(task.weights.format, task.weights.k);
  const int count = last - first;
  int configured = 0;
  for (int panel = begin; panel < end; ++panel) {
    const char* data = (const char*)task.weights.panels + panel * bytes;
    for (int b = first; b < last; ++b) {
      const int row = blocks.begin(b);
      const int num_rows = blocks.begin(b + 1) - row;
      if (num_rows != configured) configure_gemm(num_rows);
      configured = num_rows;
      const char* rows = (const char*)task.rows.data + std::int64_t(row) * steps * kTileRowBytes;
      const int lines = (kLines + count - 1) / count;
      const char* ahead = count == 1 ? data + kTileStreamAhead
                                     : data + bytes + std::int64_t(b - first) * steps * lines * 64;
      gemm_tile_block(task, {rows, num_rows, data, steps, ahead, lines}, row, panel);
    }
  }
}

static void gemm_tiles(const GemmTask& task, int begin, int end) {
  const RowBlocks blocks = row_blocks(task.rows.m, kTileBlockRows);
  const int fitting = kTileGroupValues / task.rows.k;
  const int group = (fitting < kLeastTileGroup ? kLeastTileGroup : fitting) / kTileBlockRows;
  for (int first = 0; first < blocks.count; first += group) {
    const int last = first + group < blocks.count ? first + group : blocks.count;
    gemm_tile_group(task, blocks, first, last, begin, end);
  }
  _tile_release();
}

}  // namespace vivace::VIVACE_ISA
