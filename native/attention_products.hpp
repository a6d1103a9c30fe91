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

// What to bring into cache while a super-block is worked on: `bytes` at each of the pages of the
// next one, in the order of memory and a little in every phase, so that memory is read all the
// time. To the second level: the first is too small, and what waits there for memory would hold
// up the loads of what is at work.
struct Ahead {
  const char* pages[kBlockPages];
  int count;
  std::int64_t bytes;
  int page;
  std::int64_t offset;

  // The next `lines` cache lines.
  VIVACE_INLINE void fetch(Ahead& ahead, int lines) {
    if (ahead.page >= ahead.count) return;
    const char* from = ahead.pages[ahead.page] + ahead.offset;
    for (int line = 0; line < lines; ++line) fetch_line(from + 64 * line);
    // Translating an address takes about as long as reading a line: the next page begins now.
    const bool boundary = ahead.offset % kMemoryPage == 0 && ahead.page + 1 < ahead.count;
    if (boundary) fetch_line(ahead.pages[ahead.page + 1] + ahead.offset);
    ahead.offset += 64 * lines;
    if (ahead.offset < ahead.bytes) return;
    ahead.offset = 0;
    ++ahead.page;
  }

 private:
  static constexpr std::int64_t kMemoryPage = 4096;

  VIVACE_INLINE void fetch_line(const char* p) { __builtin_prefetch(p, 0, 2); }
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
                    const BlockPages& pages, PageRange range, Ahead& ahead, float* scores) {
    const int steps = units(kv.head_dim, Step::kDepth);
    const char* rows = queries + std::int64_t(begin) * steps * Step::kRowBytes;
    score_rows<kMaxRows>(rows, end - begin, steps, pages, range, ahead, scores);
  }

  // sums[r] = factors[r] * sums[r] + probabilities[r] . values, in rows of state_width(kv).
  static void mix(const KVLayout& kv, const char* probabilities, const float* factors, int rows,
                  const BlockPages& pages, PageRange range, Ahead& ahead, float* sums) {
    mix_rows<kMaxRows>(probabilities, factors, rows, value_width(kv), pages, range, ahead, sums);
  }

 private:
  // Steps between fetches.
  static constexpr int kChunkSteps = 8;

  template <int Rows, int Vectors>
  VIVACE_INLINE void score_tile(const char* rows, int steps, const char* const* keys,
                                Ahead& ahead, float* scores) {
    TileOperands<Vectors> at{rows, Step::kRowBytes, Rows * Step::kRowBytes, {}, kVectorBytes};
    for (int v = 0; v < Vectors; ++v) at.columns[v] = keys[v];
    V16 sums[Rows][Vectors];
    for (auto& row : sums) {
      for (V16& sum : row) sum = zero();
    }
    for (int s = 0; s < steps; s += kChunkSteps) {
      Ahead::fetch(ahead, kChunkSteps * Vectors / 2);
      const int count = steps - s < kChunkSteps ? steps - s : kChunkSteps;
      accumulate_tile<Step>(sums, at, count, Prefetch<0>{});
      at.rows += kChunkSteps * at.row_step;
      for (const char*& columns : at.columns) columns += kChunkSteps * at.column_step;
    }
    for (int r = 0; r < Rows; ++r) {
      for (int v = 0; v < Vectors; ++v) store(scores + r * kBlockTokens + 16 * v, sums[r][v]);
    }
  }

  template <int Rows>
  static void score_rows(const char* rows, int count, int steps, const BlockPages& pages,
                         PageRange range, Ahead& ahead, float* scores) {
    if constexpr (Rows > 1) {
      if (count != Rows) return score_rows<Rows - 1>(rows, count, steps, pages, range, ahead, scores);
    }
    constexpr int kVectors = tile_vectors(Rows);
    int p = range.begin;
    for (; p + kVectors <= range.end; p += kVectors) {
      score_tile<Rows, kVectors>(rows, steps, pages.keys + p, ahead, scores + 16 * p);
    }
    for (; p < range.end; ++p) score_tile<Rows, 1>(rows, steps, pages.keys + p, ahead, scores + 16 * p);
  }

  template <int Rows, int Vectors>
  VIVACE_INLINE void mix_tile(const char* probabilities, const float* factors, int width,
                              const BlockPages& pages, PageRange range, int column, Ahead& ahead,
                              float* sums) {
    constexpr int kSteps = kPageTokens / Step::kDepth;
    const int stride = width + 16;
    V16 total[Rows][Vectors];
    for (int r = 0; r < Rows; ++r) {
      for (int v = 0; v < Vectors; ++v) {
        total[r][v] = load(sums + r * stride + column + 16 * v) * broadcast(factors[r]);
      }
    }
    for (int p = range.begin; p < range.end; ++p) {
      TileOperands<Vectors> at{probabilities + p * kSteps * Step::kRowBytes, kProbabilityStride,
                               Step::kRowBytes, {}, std::int64_t(width) * 4};
      for (int v = 0; v < Vectors; ++v) at.columns[v] = pages.values[p] + (column + 16 * v) * 4;
      Ahead::fetch(ahead, kSteps * Vectors);
      accumulate_tile<Step>(total, at, kSteps, Prefetch<0>{});
    }
    for (int r = 0; r < Rows; ++r) {
      for (int v = 0; v < Vectors; ++v) store(sums + r * stride + column + 16 * v, total[r][v]);
    }
  }

  template <int Rows>
  static void mix_rows(const char* probabilities, const float* factors, int count, int width,
                       const BlockPages& pages, PageRange range, Ahead& ahead, float* sums) {
    if constexpr (Rows > 1) {
      if (count != Rows) {
        return mix_rows<Rows - 1>(probabilities, factors, count, width, pages, range, ahead, sums);
      }
    }
    constexpr int kVectors = tile_vectors(Rows);
    int d = 0;
    for (; d + 16 * kVectors <= width; d += 16 * kVectors) {
      mix_tile<Rows, kVectors>(probabilities, factors, width, pages, range, d, ahead, sums);
    }
    for (; d < width; d += 16) {
      mix_tile<Rows, 1>(probabilities, factors, width, pages, range, d, ahead, sums);
    }
  }
};

}  // namespace vivace::VIVACE_ISA
