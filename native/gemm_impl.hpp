// Matmul of packed rows with packed panels.
#pragma once

#include "gemm_epilogue.hpp"
#include "gemm_pack.hpp"
#if defined(VIVACE_TILES)
#include "gemm_tiles.hpp"
#endif

namespace vivace::VIVACE_ISA {

// Rows taken together through all panels: few enough values to stay in the second-level cache, but
// enough rows for a panel to be worth its way from memory.
constexpr int kRowGroupValues = 128 * 1024;
constexpr int kLeastRowGroup = 48;

// How far ahead a lone row block reads its panel.
constexpr std::int64_t kStreamAhead = 2048;

// One row block times one panel.
struct BlockTask {
  const GemmTask* task;
  const char* rows;
  const char* panel;
  int first_row;
  int panel_index;
  int steps;
  const char* ahead;        // what the next block or panel will read
  std::int64_t ahead_step;  // bytes per step
};

template <class Step, int Rows, int Vectors, int Lines>
VIVACE_INLINE void gemm_tile(const BlockTask& block, int vector) {
  TileOperands<Vectors> at;
  at.rows = block.rows;
  at.row_stride = Step::kRowBytes;
  at.row_step = Rows * Step::kRowBytes;
  at.column_step = kPanelColumns * 4;
  for (int v = 0; v < Vectors; ++v) at.columns[v] = block.panel + (vector + v) * kVectorBytes;
  V16 sums[Rows][Vectors];
  for (auto& row : sums) {
    for (V16& sum : row) sum = zero();
  }
  const Prefetch<Lines> ahead{block.ahead, block.ahead_step};
  accumulate_tile<Step>(sums, at, block.steps, ahead);
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < Vectors; ++v) {
      const int column = block.panel_index * kPanelColumns + 16 * (vector + v);
      write_out(*block.task, block.first_row + r, column, sums[r][v]);
    }
  }
}

template <class Step, int Lines, int Rows = Step::kMaxRows>
void gemm_block(const BlockTask& block, int rows) {
  if constexpr (Rows > 1) {
    if (rows != Rows) return gemm_block<Step, Lines, Rows - 1>(block, rows);
  }
  constexpr int kVectors = tile_vectors(Rows);
  for (int v = 0; v < kPanelColumns / 16; v += kVectors) {
    gemm_tile<Step, Rows, kVectors, Lines>(block, v);
  }
}

// Row blocks [first, last) times one panel. A lone block prefetches its own stream; several share
// out the next panel, so that memory is read all the time.
template <class Step>
VIVACE_INLINE void gemm_panel(const GemmTask& task, const RowBlocks& blocks, int first, int last,
                              int panel) {
  const int steps = units(task.rows.k, Step::kDepth);
  const std::int64_t bytes = panel_bytes(task.weights.format, task.weights.k);
  const char* data = (const char*)task.weights.panels + panel * bytes;
  for (int b = first; b < last; ++b) {
    const int row = blocks.begin(b);
    const char* rows = (const char*)task.rows.data + std::int64_t(row) * steps * Step::kRowBytes;
    const int count = blocks.begin(b + 1) - row;
    if (last - first == 1) {
      gemm_block<Step, 2>({&task, rows, data, row, panel, steps, data + kStreamAhead, 128}, count);
      continue;
    }
    const std::int64_t ahead_step = 128 / (last - first);
    const char* ahead = data + bytes + (b - first) * steps * ahead_step;
    gemm_block<Step, 1>({&task, rows, data, row, panel, steps, ahead, ahead_step}, count);
  }
}

template <class Step>
void gemm_steps(const GemmTask& task, int begin, int end) {
  const RowBlocks blocks = row_blocks(task.rows.m, Step::kMaxRows);
  const int fitting = kRowGroupValues / task.rows.k;
  const int group = (fitting < kLeastRowGroup ? kLeastRowGroup : fitting) / Step::kMaxRows;
  for (int first = 0; first < blocks.count; first += group) {
    const int last = first + group < blocks.count ? first + group : blocks.count;
    for (int panel = begin; panel < end; ++panel) {
      gemm_panel<Step>(task, blocks, first, last, panel);
    }
  }
}

static void gemm(const GemmTask& task, int begin, int end) {
  if (task.rows.kind == RowKind::float32) return gemm_steps<Float32Step>(task, begin, end);
#if defined(VIVACE_TILES)
  gemm_tiles(task, begin, end);
#else
  gemm_steps<BFloat16Step>(task, begin, end);
#endif
}

}  // namespace vivace::VIVACE_ISA
