// The inner product of every matmul: broadcast rows times vectors of sixteen columns.
//
// A step is the depth that one accumulation consumes. Each (row, column) keeps one accumulator
// that takes its steps in ascending order, so a result does not depend on the shape of the tile.
//
//   kDepth: depth of a step.        kRowBytes: one row's share of a step.
//   kMaxRows: rows of the largest tile.
//   Sum: sixteen accumulators.
//   put(row, k, values): stores values k to k + 15 of a row whose steps are contiguous.
#pragma once

#include <cstring>

#include "kernels.hpp"
#include "simd.hpp"

namespace vivace::VIVACE_ISA {

// Rows of the largest tiles.
#if defined(VIVACE_SIMD_AVX512)
constexpr int kFloat32Rows = 12;
constexpr int kBFloat16Rows = 12;
constexpr int kInt8Rows = 12;
constexpr int kInt4Rows = 12;
constexpr int kWideRows = 8;
#elif defined(VIVACE_SIMD_AVX2)
constexpr int kFloat32Rows = 6;
constexpr int kBFloat16Rows = 4;
constexpr int kInt8Rows = 4;
constexpr int kInt4Rows = 2;
constexpr int kWideRows = 2;
#elif defined(VIVACE_SIMD_NEON)
constexpr int kFloat32Rows = 6;
constexpr int kBFloat16Rows = 4;
constexpr int kInt8Rows = 6;
constexpr int kInt4Rows = 2;
constexpr int kWideRows = 2;
#else
constexpr int kFloat32Rows = 2;
constexpr int kBFloat16Rows = 2;
constexpr int kInt8Rows = 2;
constexpr int kInt4Rows = 2;
constexpr int kWideRows = 2;
#endif

// Column vectors of one tile: as many as the registers hold beside `rows` rows of accumulators.
static constexpr int tile_vectors([[maybe_unused]] int rows) {
#if defined(VIVACE_SIMD_AVX512)
  return 2;
#else
  return rows == 1 ? 2 : 1;
#endif
}

// Every step holds 4 bytes of each column: a float, a pair of bfloat16, four codes.
constexpr int kVectorBytes = 64;

struct Float32Step {
  static constexpr int kDepth = 1;
  static constexpr int kRowBytes = 4;
  static constexpr int kMaxRows = kFloat32Rows;
  using Sum = V16;
  using Columns = V16;

  VIVACE_INLINE void put(char* row, int k, V16 values) { store((float*)row + k, values); }
  VIVACE_INLINE Columns load_columns(const char* p) { return load((const float*)p); }
  VIVACE_INLINE V16 accumulate(V16 sum, const char* row, Columns columns) {
    return fma(broadcast(*(const float*)row), columns, sum);
  }
};

#if defined(VIVACE_BF16_DOT)

struct BFloat16Step {
  static constexpr int kDepth = 2;
  static constexpr int kRowBytes = 4;
  static constexpr int kMaxRows = kBFloat16Rows;
  using Sum = V16;
  using Columns = __m512i;

  VIVACE_INLINE void put(char* row, int k, V16 values) {
    store_bf16((std::uint16_t*)row + k, values);
  }
  VIVACE_INLINE Columns load_columns(const char* p) { return _mm512_loadu_si512(p); }
  VIVACE_INLINE V16 accumulate(V16 sum, const char* row, Columns columns) {
    int pair;
    std::memcpy(&pair, row, 4);
    return {_mm512_dpbf16_ps(sum.v, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)columns)};
  }
};

#else

// No bfloat16 instructions: rows are floats rounded to bfloat16, columns are widened as they come.
struct BFloat16Step {
  static constexpr int kDepth = 2;
  static constexpr int kRowBytes = 8;
  static constexpr int kMaxRows = kBFloat16Rows;
  using Sum = V16;
  struct Columns {
    V16 even, odd;
  };

  VIVACE_INLINE void put(char* row, int k, V16 values) {
    std::uint16_t rounded[16];
    store_bf16(rounded, values);
    store((float*)row + k, load_bf16(rounded));
  }
  VIVACE_INLINE Columns load_columns(const char* p) {
    Columns columns;
    load_bf16_pairs((const std::uint16_t*)p, columns.even, columns.odd);
    return columns;
  }
  VIVACE_INLINE V16 accumulate(V16 sum, const char* row, Columns columns) {
    const float* pair = (const float*)row;
    sum = fma(broadcast(pair[0]), columns.even, sum);
    return fma(broadcast(pair[1]), columns.odd, sum);
  }
};

#endif

// Signed codes of rows times unsigned bytes of columns; sums are exact.
struct CodeStep {
  static constexpr int kDepth = 4;
  static constexpr int kRowBytes = kCodeRowBytes;
  static constexpr int kMaxRows = kInt8Rows;
  using Sum = I16;
  using Columns = Codes;

  VIVACE_INLINE void put(char* row, int k, V16 values) { put_codes(row, k, values); }
  VIVACE_INLINE Columns load_columns(const char* p) { return load_codes(p); }
  VIVACE_INLINE I16 accumulate(I16 sum, const char* row, const Columns& columns) {
    return dot(sum, row, columns);
  }
};

// bfloat16 rows of int4 weights; see gemm_int.hpp.
struct WideStep {
  static constexpr int kDepth = 4;
  static constexpr int kRowBytes = kWideRowBytes;

  VIVACE_INLINE void put(char* row, int k, V16 values) { put_wide(row, k, values); }
};

// Where a tile's operands stand; strides are bytes.
//   row_stride: from row to row; row_step, column_step: from step to step.
template <int Vectors>
struct TileOperands {
  const char* rows;
  std::int64_t row_stride;
  std::int64_t row_step;
  const char* columns[Vectors];
  std::int64_t column_step;
};

// What to bring into cache while a tile runs: `Lines` cache lines per step.
template <int Lines>
struct Prefetch {
  const char* from = nullptr;
  std::int64_t step = 0;

  VIVACE_INLINE void issue(const Prefetch& ahead, int s) {
    for (int line = 0; line < Lines; ++line) {
      prefetch_second_level(ahead.from + s * ahead.step + line * 64);
    }
  }
};

template <class Step, int Rows, int Vectors, int Lines>
VIVACE_INLINE void accumulate_step(typename Step::Sum (&sums)[Rows][Vectors],
                                   const TileOperands<Vectors>& at, int s,
                                   const Prefetch<Lines>& ahead) {
  Prefetch<Lines>::issue(ahead, s);
  typename Step::Columns columns[Vectors];
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v) {
    columns[v] = Step::load_columns(at.columns[v] + s * at.column_step);
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
    const char* row = at.rows + s * at.row_step + r * at.row_stride;
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      sums[r][v] = Step::accumulate(sums[r][v], row, columns[v]);
    }
  }
}

// sums[r][v] += rows[r] . columns[v], over `steps` steps. Unrolled by hand: compilers that do it
// themselves lose accumulators to memory where the rest begins.
template <class Step, int Rows, int Vectors, int Lines>
VIVACE_INLINE void accumulate_tile(typename Step::Sum (&sums)[Rows][Vectors],
                                   const TileOperands<Vectors>& at, int steps,
                                   const Prefetch<Lines>& ahead) {
  int s = 0;
  for (; s + 4 <= steps; s += 4) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) accumulate_step<Step>(sums, at, s + i, ahead);
  }
#pragma GCC unroll 1
  for (; s < steps; ++s) accumulate_step<Step>(sums, at, s, ahead);
}

}  // namespace vivace::VIVACE_ISA
