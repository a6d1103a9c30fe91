// Tile products with one sum over the whole depth: bfloat16 and int8 panels.
#pragma once

#include "gemm_panels.hpp"
#include "gemm_tile_block.hpp"

namespace vivace::VIVACE_ISA {

template <class Tiles>
struct WholeTiles {
  // Steps [begin, end) of a panel.
  struct Slice {
    const char* columns;
    int begin;
    int end;
  };

  // A slice of sixteen steps takes 32 KiB of the first-level cache.
  static TileShape shape(const GemmTask& task) {
    const int steps = int(row_bytes(task.rows) / kTileRowBytes);
    return {.units = steps,
            .unit_bytes = kTileStepBytes,
            .unit_steps = 1,
            .slice = 16,
            .depth_bytes = kTileRowBytes};
  }

  VIVACE_INLINE void open(const PackedMatrix&, const char* panel, int begin, int end,
                          Slice& slice) {
    slice = {panel + std::int64_t(begin) * kTileStepBytes, begin, end};
  }

  template <bool Two>
  static void multiply(const TileShape&, const TileRows& rows, const Slice& slice,
                       TileAhead& ahead, TileSums& sums) {
    using Block = TileBlock<Tiles, Two, true>;
    slice.begin == 0 ? Block::clear() : Block::load(sums);
    const char* columns = slice.columns;
    for (int s = slice.begin; s < slice.end; ++s, columns += kTileStepBytes) {
      Block::step(rows.at(s * kTileRowBytes), columns);
      ahead.issue();
    }
    Block::store(sums);
  }

  VIVACE_INLINE void close(Slice&) {}

  // int8: scales the sums of codes, which the panel keeps 128 too high.
  VIVACE_INLINE void finish(const GemmTask& task, const char* panel, int first_row, int count,
                            TileSums& sums) {
    if (task.rows.kind != RowKind::int8) return;
    const std::int32_t* const starts = row_sums(task.rows).of_block(first_row);
    const float* const scales = (const float*)(panel + row_bytes(task.rows) * kPanelColumns);
    const V16 low = load(scales), high = load(scales + 16);
    for (int r = 0; r < count; ++r) {
      const __m512i start = _mm512_set1_epi32(starts[r]);
      const __m512i left = _mm512_add_epi32(_mm512_load_si512(sums[r]), start);
      const __m512i right = _mm512_add_epi32(_mm512_load_si512(sums[r] + 16), start);
      store(sums[r], V16{_mm512_cvtepi32_ps(left)} * low);
      store(sums[r] + 16, V16{_mm512_cvtepi32_ps(right)} * high);
    }
  }
};

}  // namespace vivace::VIVACE_ISA
