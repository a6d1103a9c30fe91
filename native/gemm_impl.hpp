// Matmul of packed rows with packed panels.
#pragma once

#include "gemm_epilogue.hpp"
#include "gemm_int.hpp"
#include "gemm_pack.hpp"
#if defined(VIVACE_TILES)
#include "gemm_tiles.hpp"
#endif

namespace vivace::VIVACE_ISA {

// Rows taken together through all panels: few enough to stay in the second-level cache, but
// enough for a panel to be worth its way from memory.
constexpr int kRowGroupBytes = 256 * 1024;
constexpr int kLeastRowGroup = 48;

// How far ahead a lone row block reads its panel. Whole pages ahead were measured to be slower.
constexpr std::int64_t kStreamAhead = 3072;

// Floating-point rows times panels of their own type.
template <class Step>
struct FloatProduct {
  static constexpr int kMaxRows = Step::kMaxRows;
  static constexpr int kStepBytes = kPanelColumns * 4;

  template <int Rows, int Lines>
  VIVACE_INLINE void multiply(const Block& block, float (*sums)[kPanelColumns]) {
    constexpr int kVectors = tile_vectors(Rows);
    const int steps = row_depth(block.task->rows) / Step::kDepth;
    for (int vector = 0; vector < kPanelColumns / 16; vector += kVectors) {
      V16 tile[Rows][kVectors];
#pragma GCC unroll 16
      for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) tile[r][v] = zero();
      }
      const auto at = tile_operands<Step, Rows, kVectors>(block.rows, block.panel, vector);
      accumulate_tile<Step>(tile, at, steps, Prefetch<Lines>{block.ahead, block.ahead_step});
#pragma GCC unroll 16
      for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) store(sums[r] + 16 * (vector + v), tile[r][v]);
      }
    }
  }
};

template <class Product, int Lines, int Rows = Product::kMaxRows>
void gemm_block(const Block& block) {
  if constexpr (Rows > 1) {
    if (block.num_rows != Rows) return gemm_block<Product, Lines, Rows - 1>(block);
  }
  expect_sums(*block.task, block.panel_index, block.first_row, Rows);
  alignas(kAlignment) float sums[Rows][kPanelColumns];
  Product::template multiply<Rows, Lines>(block, sums);
  write_sums(*block.task, block.panel_index, block.first_row, Rows, sums);
}

// Row blocks [first, last) times one panel. A lone block prefetches its own stream; several share
// out the next panel, so that memory is read all the time.
template <class Product>
VIVACE_INLINE void gemm_panel(const GemmTask& task, const RowBlocks& blocks, int first, int last,
                              int panel) {
  constexpr int kStep = Product::kStepBytes;
  const std::int64_t bytes = panel_bytes(task.weights.format, task.weights.k);
  const std::int64_t stride = row_bytes(task.rows);
  const char* data = (const char*)task.weights.panels + panel * bytes;
  const std::int64_t ahead_step = kStep / (last - first);
  for (int b = first; b < last; ++b) {
    const int row = blocks.begin(b), count = blocks.begin(b + 1) - row;
    const char* rows = (const char*)task.rows.data + row * stride;
    if (last - first == 1) {
      const char* ahead = data + kStreamAhead;
      gemm_block<Product, kStep / 64>({&task, rows, data, panel, row, count, ahead, kStep});
      continue;
    }
    const char* ahead = data + bytes + (b - first) * (bytes / kStep) * ahead_step;
    gemm_block<Product, 1>({&task, rows, data, panel, row, count, ahead, ahead_step});
  }
}

template <class Product>
void gemm_panels(const GemmTask& task, int begin, int end) {
  const RowBlocks blocks = row_blocks(task.rows.m, Product::kMaxRows);
  const int fitting = int(kRowGroupBytes / row_bytes(task.rows));
  const int rows = fitting < kLeastRowGroup ? kLeastRowGroup : fitting;
  const int group = (rows + Product::kMaxRows - 1) / Product::kMaxRows;
  for (int first = 0; first < blocks.count; first += group) {
    const int last = first + group < blocks.count ? first + group : blocks.count;
    for (int panel = begin; panel < end; ++panel) {
      gemm_panel<Product>(task, blocks, first, last, panel);
    }
  }
}

static void gemm_int8(const GemmTask& task, int begin, int end) {
  const WeightFormat& format = task.weights.format;
  if (format.kind == WeightKind::int8) return gemm_panels<Int8Product>(task, begin, end);
  if (format.zero_points) return gemm_panels<Int4Product<ExactNibbles<true>>>(task, begin, end);
  gemm_panels<Int4Product<ExactNibbles<false>>>(task, begin, end);
}

static void gemm(const GemmTask& task, int begin, int end) {
#if defined(VIVACE_TILES)
  const bool tiles = on_tiles(task.rows.kind, task.rows.group, task.rows.m);
  if (tiles) return gemm_on_tiles(task, begin, end);
#endif
  const bool grouped = task.weights.format.kind == WeightKind::int4;
  switch (task.rows.kind) {
    case RowKind::float32:
      return gemm_panels<FloatProduct<Float32Step>>(task, begin, end);
    case RowKind::int8:
      return gemm_int8(task, begin, end);
    case RowKind::bfloat16:
      if (grouped) return gemm_panels<Int4Product<WideNibbles>>(task, begin, end);
      return gemm_panels<FloatProduct<BFloat16Step>>(task, begin, end);
  }
}

}  // namespace vivace::VIVACE_ISA
