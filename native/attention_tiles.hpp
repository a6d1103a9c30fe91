// The two matmuls of attention on AMX tiles, for head sizes that fill whole tiles. A page's keys
// are a column tile for each 32 dimensions; its values are column tiles of half the depth.
#pragma once

#include "attention_products.hpp"
#include "simd_tiles.hpp"

namespace vivace::VIVACE_ISA {

// Tiles 0 to 3 hold sums; 4 and 5 rows and columns of queries times keys, 6 and 7 of probabilities
// times values. Loading a tile of another shape needs no new configuration this way.
struct TileProducts {
  using Step = BFloat16Step;
  static constexpr int kMaxRows = kTileRows;
  static constexpr RowLayout kQueryLayout{kTileDepth, kTileRowBytes, kMaxRows};
  static constexpr int kPageBytes = kPageTokens * 2;  // one row's probabilities of a page

  // The head size is the model's, so all rows of a model take the same path.
  static bool fits(const KVLayout& kv) { return kv.head_dim % kTileDepth == 0; }

  static void begin_block(int rows) {
    TileConfig config;
    for (const int tile : {0, 1, 2, 3, 4}) config.shape(tile, rows, kTileRowBytes);
    config.shape(5, kTileRows, kTileRowBytes);
    config.shape(6, rows, kPageBytes);
    config.shape(7, kPageTokens / 2, kTileRowBytes);
    configure_tiles(config);
  }

  static void end_item() { _tile_release(); }

  // See VectorProducts.
  static void score(const KVLayout& kv, const char* queries, int begin, int end,
                    const BlockPages& pages, PageRange range, Ahead& ahead, float* scores) {
    const int steps = kv.head_dim / kTileDepth;
    const char* rows = queries + std::int64_t(begin) * steps * kTileRowBytes;
    int p = range.begin;
    for (; p + 4 <= range.end; p += 4) {
      score_pages<4>(rows, end - begin, steps, pages.keys + p, ahead, scores + 16 * p);
    }
    for (; p < range.end; ++p) {
      score_pages<1>(rows, end - begin, steps, pages.keys + p, ahead, scores + 16 * p);
    }
    tile_fence();
  }

  // See VectorProducts.
  static void mix(const KVLayout& kv, const char* probabilities, const float* factors, int rows,
                  const BlockPages& pages, PageRange range, Ahead& ahead, float* sums) {
    const int width = value_width(kv), stride = state_width(kv);
    for (int r = 0; r < rows; ++r) {
      const V16 factor = broadcast(factors[r]);
      for (int d = 0; d < width; d += 16) {
        store(sums + r * stride + d, load(sums + r * stride + d) * factor);
      }
    }
    tile_fence();
    int d = 0;
    for (; d + 64 <= width; d += 64) mix_columns<4>(probabilities, width, pages, range, d, ahead, sums);
    for (; d < width; d += 32) mix_columns<2>(probabilities, width, pages, range, d, ahead, sums);
    tile_fence();
  }

 private:
  template <int Pages>
  VIVACE_INLINE void score_pages(const char* rows, int count, int steps, const char* const* keys,
                                 Ahead& ahead, float* scores) {
    _tile_zero(0);
    if constexpr (Pages == 4) {
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    for (int s = 0; s < steps; ++s) {
      constexpr int kStep = kTileRows * kTileRowBytes;
      Ahead::fetch(ahead, kTileRows * Pages / 2);
      _tile_loadd(4, rows + std::int64_t(s) * count * kTileRowBytes, kTileRowBytes);
      _tile_loadd(5, keys[0] + s * kStep, kTileRowBytes);
      _tile_dpbf16ps(0, 4, 5);
      if constexpr (Pages == 4) {
        _tile_loadd(5, keys[1] + s * kStep, kTileRowBytes);
        _tile_dpbf16ps(1, 4, 5);
        _tile_loadd(5, keys[2] + s * kStep, kTileRowBytes);
        _tile_dpbf16ps(2, 4, 5);
        _tile_loadd(5, keys[3] + s * kStep, kTileRowBytes);
        _tile_dpbf16ps(3, 4, 5);
      }
    }
    constexpr int kStride = kBlockTokens * sizeof(float);
    _tile_stored(0, scores, kStride);
    if constexpr (Pages == 4) {
      _tile_stored(1, scores + 16, kStride);
      _tile_stored(2, scores + 32, kStride);
      _tile_stored(3, scores + 48, kStride);
    }
  }

  // Sums of columns [d, d + 16 * Tiles).
  template <int Tiles>
  VIVACE_INLINE void mix_columns(const char* probabilities, int width, const BlockPages& pages,
                                 PageRange range, int d, Ahead& ahead, float* sums) {
    const std::int64_t stride = std::int64_t(width) * 4, row = stride + 64;
    _tile_loadd(0, sums + d, row);
    _tile_loadd(1, sums + d + 16, row);
    if constexpr (Tiles == 4) {
      _tile_loadd(2, sums + d + 32, row);
      _tile_loadd(3, sums + d + 48, row);
    }
    for (int p = range.begin; p < range.end; ++p) {
      const char* values = pages.values[p] + d * 4;
      Ahead::fetch(ahead, kPageTokens / 2 * Tiles);
      _tile_loadd(6, probabilities + p * kPageBytes, kProbabilityStride);
      _tile_loadd(7, values, stride);
      _tile_dpbf16ps(0, 6, 7);
      _tile_loadd(7, values + 64, stride);
      _tile_dpbf16ps(1, 6, 7);
      if constexpr (Tiles == 4) {
        _tile_loadd(7, values + 128, stride);
        _tile_dpbf16ps(2, 6, 7);
        _tile_loadd(7, values + 192, stride);
        _tile_dpbf16ps(3, 6, 7);
      }
    }
    _tile_stored(0, sums + d, row);
    _tile_stored(1, sums + d + 16, row);
    if constexpr (Tiles == 4) {
      _tile_stored(2, sums + d + 32, row);
      _tile_stored(3, sums + d + 48, row);
    }
  }
};

}  // namespace vivace::VIVACE_ISA
