// The inner products of matmuls on AMX tiles: up to 32 rows times 32 columns.
//
// Rows lie as [64 bytes of depth][row of the block][64 bytes] and columns as
// [word of depth][32][4 bytes], for every type. A step is 64 bytes of depth: two tiles of rows and
// two of columns, loaded once each, make four products. These take 64 cycles; the four loads, 4 KiB
// in all, take 32 from the first-level cache and at least 64 from the second.
#pragma once

#include "gemm_rows.hpp"
#include "simd_tiles.hpp"

namespace vivace::VIVACE_ISA {

constexpr int kTileStepBytes = kTileRows * kPanelColumns * 4;  // of columns

// Sums of one block of rows times one panel: float32, or int32 on the way there.
using TileSums = float[kTileBlockRows][kPanelColumns];
constexpr int kTileSumStride = kPanelColumns * sizeof(float);

// Tiles 0 and 1 hold the sums of the first sixteen rows, 2 and 3 those of the rest; 4 and 5 the
// rows, 6 and 7 the columns, `depth_bytes` of each.
VIVACE_INLINE void configure_products(int rows, int depth_bytes) {
  const int top = rows < kTileRows ? rows : kTileRows;
  const int bottom = rows - top > 0 ? rows - top : 1;
  TileConfig config;
  for (const int tile : {0, 1}) config.shape(tile, top, kTileRowBytes);
  for (const int tile : {2, 3}) config.shape(tile, bottom, kTileRowBytes);
  config.shape(4, top, depth_bytes);
  config.shape(5, bottom, depth_bytes);
  for (const int tile : {6, 7}) config.shape(tile, depth_bytes / 4, kTileRowBytes);
  configure_tiles(config);
}

// sums (0 to 3) += rows (4, 5) times columns (6, 7). The instructions want literal tile numbers.
struct BFloat16Tiles {
  VIVACE_INLINE void top_left() { _tile_dpbf16ps(0, 4, 6); }
  VIVACE_INLINE void top_right() { _tile_dpbf16ps(1, 4, 7); }
  VIVACE_INLINE void bottom_left() { _tile_dpbf16ps(2, 5, 6); }
  VIVACE_INLINE void bottom_right() { _tile_dpbf16ps(3, 5, 7); }
};

// Signed rows times unsigned columns.
struct UnsignedTiles {
  VIVACE_INLINE void top_left() { _tile_dpbsud(0, 4, 6); }
  VIVACE_INLINE void top_right() { _tile_dpbsud(1, 4, 7); }
  VIVACE_INLINE void bottom_left() { _tile_dpbsud(2, 5, 6); }
  VIVACE_INLINE void bottom_right() { _tile_dpbsud(3, 5, 7); }
};

struct SignedTiles {
  VIVACE_INLINE void top_left() { _tile_dpbssd(0, 4, 6); }
  VIVACE_INLINE void top_right() { _tile_dpbssd(1, 4, 7); }
  VIVACE_INLINE void bottom_left() { _tile_dpbssd(2, 5, 6); }
  VIVACE_INLINE void bottom_right() { _tile_dpbssd(3, 5, 7); }
};

// How a product is cut along its depth, in units: steps, or groups of weights.
//   unit_bytes: of a panel. unit_steps: steps of a unit.
//   slice: units at a time.
//   depth_bytes: of a step.
struct TileShape {
  int units;
  std::int64_t unit_bytes;
  int unit_steps;
  int slice;
  int depth_bytes;
};

// The packed rows of a block.
struct TileRows {
  const char* data;
  int count;

  // From a byte of depth on.
  const char* at(int depth) const {
    const std::int64_t step = std::int64_t(count) * kTileRowBytes;
    return data + depth / kTileRowBytes * step + depth % kTileRowBytes;
  }
};

// What blocks do: `Two` row tiles or one; `Stream` the rows past the first-level cache, which
// keeps the columns.
template <class Tiles, bool Two, bool Stream>
struct TileBlock {
  VIVACE_INLINE void clear() {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (!Two) return;
    _tile_zero(2);
    _tile_zero(3);
  }

  VIVACE_INLINE void load(const void* sums) {
    const char* const top = (const char*)sums;
    _tile_loadd(0, top, kTileSumStride);
    _tile_loadd(1, top + kTileRowBytes, kTileSumStride);
    if constexpr (!Two) return;
    const char* const bottom = top + kTileRows * kTileSumStride;
    _tile_loadd(2, bottom, kTileSumStride);
    _tile_loadd(3, bottom + kTileRowBytes, kTileSumStride);
  }

  VIVACE_INLINE void store(void* sums) {
    char* const top = (char*)sums;
    _tile_stored(0, top, kTileSumStride);
    _tile_stored(1, top + kTileRowBytes, kTileSumStride);
    if constexpr (!Two) return;
    char* const bottom = top + kTileRows * kTileSumStride;
    _tile_stored(2, bottom, kTileSumStride);
    _tile_stored(3, bottom + kTileRowBytes, kTileSumStride);
  }

  // Calls `between` after each pair of products, which it may overlap.
  template <class Between>
  VIVACE_INLINE void step(const char* rows, const char* columns, Between between) {
    _tile_loadd(6, columns, kPanelColumns * 4);
    if constexpr (Stream) {
      _tile_stream_loadd(4, rows, kTileRowBytes);
    } else {
      _tile_loadd(4, rows, kTileRowBytes);
    }
    Tiles::top_left();
    if constexpr (!Two) between();
    _tile_loadd(7, columns + kTileRowBytes, kPanelColumns * 4);
    Tiles::top_right();
    between();
    if constexpr (!Two) return;
    if constexpr (Stream) {
      _tile_stream_loadd(5, rows + kTileRows * kTileRowBytes, kTileRowBytes);
    } else {
      _tile_loadd(5, rows + kTileRows * kTileRowBytes, kTileRowBytes);
    }
    Tiles::bottom_left();
    Tiles::bottom_right();
    between();
  }

  VIVACE_INLINE void step(const char* rows, const char* columns) {
    step(rows, columns, [] {});
  }
};

// What to bring into cache, a little at each step.
struct TileAhead {
  const char* from;
  std::int64_t step;  // bytes

  // Two lines of a step, into the second-level cache, whose own prefetcher adds their neighbours.
  // More would take the buffers that rows come through from there.
  void issue() {
    prefetch_second_level(from);
    prefetch_second_level(from + step / 2);
    from += step;
  }
};

}  // namespace vivace::VIVACE_ISA
