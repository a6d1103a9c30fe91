// The two matmuls of attention over one super-block: queries times keys, probabilities times
// values. Pages are laid out as panels of sixteen columns (kv_layout.hpp).
#pragma once

#include "gemm_impl.hpp"

namespace vivace::VIVACE_ISA {

constexpr int kBlockTokens = 128;
constexpr int kBlockPages = kBlockTokens / kPageTokens;

// Rows of one block at most, over all steps; and the bytes of one row's probabilities.
constexpr int kMaxBlockRows = 16;
constexpr int kProbabilityStride = kBlockTokens * 4;

// Pages [begin, end) of a super-block.
struct PageRange {
  int begin;
  int end;
};

struct BlockPages {
  const char* keys[kBlockPages];
  const char* values[kBlockPages];
};

template <class StepType>
struct VectorProducts {
  using Step = StepType;
  static constexpr int kMaxRows = Step::kMaxRows;
  static constexpr RowLayout kQueryLayout{Step::kDepth, Step::kRowBytes, kMaxRows};

  static void begin_block(int) {}
  static void end_item() {}

  // scores[r][16 p + t] = query r . key of token t of page p, for queries [begin, end).
  static void score(const KVLayout& kv, const char* queries, int begin, int end,
                    const BlockPages& pages, PageRange range, float* scores) {
    const int steps = units(kv.head_dim, Step::kDepth);
    const char* rows = queries + std::int64_t(begin) * steps * Step::kRowBytes;
    score_rows<kMaxRows>(rows, end - begin, steps, pages, range, scores);
  }

  // sums[r] = factors[r] * sums[r] + probabilities[r] . values.
  static void mix(const KVLayout& kv, const char* probabilities, const float* factors, int rows,
                  const BlockPages& pages, PageRange range, float* sums) {
    mix_rows<kMaxRows>(probabilities, factors, rows, value_width(kv), pages, range, sums);
  }

 private:
  template <int Rows, int Vectors>
  VIVACE_INLINE void score_tile(const char* rows, int steps, const char* const* keys,
                                float* scores) {
    TileOperands<Vectors> at{rows, Step::kRowBytes, Rows * Step::kRowBytes, {}, kVectorBytes};
    for (int v = 0; v < Vectors; ++v) at.columns[v] = keys[v];
    V16 sums[Rows][Vectors];
    for (auto& row : sums) {
      for (V16& sum : row) sum = zero();
    }
    accumulate_tile<Step>(sums, at, steps, Prefetch<0>{});
    for (int r = 0; r < Rows; ++r) {
      for (int v = 0; v < Vectors; ++v) store(scores + r * kBlockTokens + 16 * v, sums[r][v]);
    }
  }

  template <int Rows>
  static void score_rows(const char* rows, int count, int steps, const BlockPages& pages,
                         PageRange range, float* scores) {
    if constexpr (Rows > 1) {
      if (count != Rows) return score_rows<Rows - 1>(rows, count, steps, pages, range, scores);
    }
    constexpr int kVectors = tile_vectors(Rows);
    int p = range.begin;
    for (; p + kVectors <= range.end; p += kVectors) {
      score_tile<Rows, kVectors>(rows, steps, pages.keys + p, scores + 16 * p);
    }
    for (; p < range.end; ++p) score_tile<Rows, 1>(rows, steps, pages.keys + p, scores + 16 * p);
  }

  template <int Rows, int Vectors>
  VIVACE_INLINE void mix_tile(const char* probabilities, const float* factors, int width,
                              const BlockPages& pages, PageRange range, int column, float* sums) {
    constexpr int kSteps = kPageTokens / Step::kDepth;
    V16 total[Rows][Vectors];
    for (int r = 0; r < Rows; ++r) {
      for (int v = 0; v < Vectors; ++v) {
        total[r][v] = load(sums + r * width + column + 16 * v) * broadcast(factors[r]);
      }
    }
    for (int p = range.begin; p < range.end; ++p) {
      TileOperands<Vectors> at{probabilities + p * kSteps * Step::kRowBytes, kProbabilityStride,
                               Step::kRowBytes, {}, std::int64_t(width) * 4};
      for (int v = 0; v < Vectors; ++v) at.columns[v] = pages.values[p] + (column + 16 * v) * 4;
      accumulate_tile<Step>(total, at, kSteps, Prefetch<0>{});
    }
    for (int r = 0; r < Rows; ++r) {
      for (int v = 0; v < Vectors; ++v) store(sums + r * width + column + 16 * v, total[r][v]);
    }
  }

  template <int Rows>
  static void mix_rows(const char* probabilities, const float* factors, int count, int width,
                       const BlockPages& pages, PageRange range, float* sums) {
    if constexpr (Rows > 1) {
      if (count != Rows) {
        return mix_rows<Rows - 1>(probabilities, factors, count, width, pages, range, sums);
      }
    }
    constexpr int kVectors = tile_vectors(Rows);
    int d = 0;
    for (; d + 16 * kVectors <= width; d += 16 * kVectors) {
      mix_tile<Rows, kVectors>(probabilities, factors, width, pages, range, d, sums);
    }
    for (; d < width; d += 16) {
      mix_tile<Rows, 1>(probabilities, factors, width, pages, range, d, sums);
    }
  }
};

}  // namespace vivace::VIVACE_ISA
