// AMX tiles: sixteen rows of 64 bytes each.
//
// Compilers do not know that tile loads read memory, so `tile_fence` must stand between ordinary
// stores and the tile loads that read them.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "simd.hpp"

namespace vivace::VIVACE_ISA {

constexpr int kTileRows = 16;
constexpr int kTileDepth = 32;     // bfloat16 values in a row of a tile
constexpr int kTileRowBytes = 64;
constexpr int kTileCodes = 64;     // int8 values
constexpr int kTileBlockRows = 2 * kTileRows;  // rows of a matmul block

// Rows from which int8 rows are faster on tiles than with vectors, whose sums are exact as well.
constexpr int kLeastTileCodes = 5;     // times int8 panels
constexpr int kLeastTileNibbles = 10;  // times int4 panels

struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t column_bytes[16] = {};
  std::uint8_t rows[16] = {};

  void shape(int tile, int tile_rows, int bytes) {
    rows[tile] = static_cast<std::uint8_t>(tile_rows);
    column_bytes[tile] = static_cast<std::uint16_t>(bytes);
  }
};

VIVACE_INLINE void tile_fence() { __asm__ volatile("" ::: "memory"); }

VIVACE_INLINE void configure_tiles(const TileConfig& config) {
  __asm__ volatile("" ::"r"(&config) : "memory");
  _tile_loadconfig(&config);
}

}  // namespace vivace::VIVACE_ISA
