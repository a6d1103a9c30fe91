// Matmul on AMX tiles: how blocks of rows, panels and depth follow each other.
//
// From the second-level cache both operands of a product come no faster than it is made. So where
// several row blocks share a panel they take it slice by slice: a slice stays in the first-level
// cache while the blocks stream past it, and their sums wait in a small buffer. Panels take turns
// within a slice, so that rows come from beyond the second-level cache once for eight panels. Sums
// are added up in ascending depth throughout, so a row has the same bits in any company.
#pragma once

#include "gemm_tiles_lone.hpp"

namespace vivace::VIVACE_ISA {

// Panels that take turns, and blocks of sums that wait: 512 KiB, on the stack.
constexpr int kTilePanels = 8;
constexpr int kWaitingSums = 128;

// Row blocks [first, last) times panels [begin, end).
struct TileJob {
  const GemmTask& task;
  RowBlocks blocks;
  TileShape shape;
  int first;
  int last;
  int begin;
  int end;

  int count() const { return last - first; }
  const char* panel(int index) const { return panel_at(task.weights, index); }
  // What is read after slice [from, to) of a panel: the same of the next panel, behind the last
  // panel the next slice of the first one, and in the end the panel that follows.
  const char* next(int index, int from, int to) const {
    if (index + 1 < end) return panel(index + 1) + from * shape.unit_bytes;
    if (to < shape.units) return panel(begin) + to * shape.unit_bytes;
    return panel(end);
  }
  TileAhead ahead(int index, int from, int to) const {
    const std::int64_t bytes = (to - from) * shape.unit_bytes;
    const std::int64_t steps = std::int64_t(to - from) * shape.unit_steps;
    return {next(index, from, to), bytes / (steps * count())};
  }
};

template <class Product>
static void multiply_panel(const TileJob& job, typename Product::Slice& slice, TileAhead ahead,
                           TileSums* sums, int& configured) {
  const std::int64_t stride = row_bytes(job.task.rows);
  for (int b = job.first; b < job.last; ++b) {
    const int row = job.blocks.begin(b);
    const TileRows rows{(const char*)job.task.rows.data + row * stride,
                        job.blocks.begin(b + 1) - row};
    TileSums& block = sums[b - job.first];
    if (rows.count != configured) configure_products(rows.count, job.shape.depth_bytes);
    configured = rows.count;
    if (rows.count > kTileRows) {
      Product::template multiply<true>(job.shape, rows, slice, ahead, block);
    } else {
      Product::template multiply<false>(job.shape, rows, slice, ahead, block);
    }
  }
  Product::close(slice);
}

template <class Product>
static void multiply_slices(const TileJob& job, TileSums* sums) {
  typename Product::Slice slice;
  int configured = 0;
  const int count = units(job.shape.units, job.shape.slice);
  for (int s = 0; s < count; ++s) {
    const int from = s * job.shape.units / count, to = (s + 1) * job.shape.units / count;
    for (int p = job.begin; p < job.end; ++p) {
      TileSums* const blocks = sums + (p - job.begin) * job.count();
      Product::open(job.task.weights, job.panel(p), from, to, slice);
      multiply_panel<Product>(job, slice, job.ahead(p, from, to), blocks, configured);
    }
  }
}

template <class Product>
static void run_job(const TileJob& job, TileSums* sums) {
  multiply_slices<Product>(job, sums);
  for (int p = job.begin; p < job.end; ++p) {
    for (int b = job.first; b < job.last; ++b, ++sums) {
      const int row = job.blocks.begin(b), rows = job.blocks.begin(b + 1) - row;
      Product::finish(job.task, job.panel(p), row, rows, *sums);
      write_sums(job.task, p, row, rows, *sums);
    }
  }
}

template <class Product>
static void multiply_groups(const GemmTask& task, int begin, int end) {
  alignas(kAlignment) TileSums sums[kWaitingSums];
  const RowBlocks blocks = row_blocks(task.rows.m, kTileBlockRows);
  const TileShape shape = Product::shape(task);
  for (int p = begin; p < end; p += kTilePanels) {
    const int last = p + kTilePanels < end ? p + kTilePanels : end;
    const int groups = units(blocks.count, kWaitingSums / (last - p));
    for (int g = 0; g < groups; ++g) {
      const int first = g * blocks.count / groups, next = (g + 1) * blocks.count / groups;
      run_job<Product>({task, blocks, shape, first, next, p, last}, sums);
    }
  }
}

// A single block takes its panels one after the other.
template <class Lone>
static void multiply_lone(const GemmTask& task, int depth_bytes, int begin, int end) {
  configure_products(task.rows.m, depth_bytes);
  if (task.rows.m > kTileRows) return Lone::template multiply<true>(task, begin, end);
  Lone::template multiply<false>(task, begin, end);
}

template <class Tiles>
static void gemm_whole(const GemmTask& task, int begin, int end) {
  if (task.rows.m > kTileBlockRows) return multiply_groups<WholeTiles<Tiles>>(task, begin, end);
  multiply_lone<LoneWhole<Tiles>>(task, kTileRowBytes, begin, end);
}

template <class Code>
static void gemm_groups(const GemmTask& task, int begin, int end) {
  if (task.rows.m > kTileBlockRows) return multiply_groups<GroupTiles<Code>>(task, begin, end);
  const int bytes = GroupTiles<Code>::shape(task).depth_bytes;
  switch (task.weights.format.group) {
    case 32: return multiply_lone<LoneGroups<Code, 32>>(task, bytes, begin, end);
    case 64: return multiply_lone<LoneGroups<Code, 64>>(task, bytes, begin, end);
    case 128: return multiply_lone<LoneGroups<Code, 128>>(task, bytes, begin, end);
  }
}

static void gemm_on_tiles(const GemmTask& task, int begin, int end) {
  const bool grouped = task.weights.format.kind == WeightKind::int4;
  if (task.rows.kind == RowKind::int8) {
    grouped ? gemm_groups<Int8Codes>(task, begin, end)
            : gemm_whole<UnsignedTiles>(task, begin, end);
  } else {
    grouped ? gemm_groups<BFloat16Codes>(task, begin, end)
            : gemm_whole<BFloat16Tiles>(task, begin, end);
  }
  _tile_release();
}

}  // namespace vivace::VIVACE_ISA
