// Online softmax (Milakov and Gimelshein 2018) of a block of query rows over one super-block.
//
// Exponents are of base two: scores are scaled by log2(e) as they are read.
#pragma once

#include "attention_products.hpp"

namespace vivace::VIVACE_ISA {

// Below any score, and finite so that differences of it are numbers.
constexpr float kLowest = -1e38f;

constexpr float kLog2E = 1.44269504f;

// The positions [begin, end) of a super-block that a query row sees, relative to its start.
struct Visible {
  int begin;
  int end;
};

// Running softmax of query rows.
//   largest: [rows], the largest score so far, times log2(e).
//   sums: [rows][width], powers times values and, in the last sixteen columns, sums of the powers
//     themselves by lane.
struct RowStates {
  float* largest;
  float* sums;
  int width;

  float* row(int index) const { return sums + std::int64_t(index) * width; }
  RowStates from(int index) const { return {largest + index, row(index), width}; }
};

// One block's scores and what becomes of them, a row per kBlockTokens.
struct SoftmaxBlock {
  int rows;
  float* scores;
  char* probabilities;
  RowStates states;
  float* factors;  // of what was summed before
};

VIVACE_INLINE V16 hide(V16 scores, Visible seen, int token) {
  const int begin = seen.begin - token, end = seen.end - token;
  const V16 hidden = broadcast(-__builtin_inff());
  if (end < 16) scores = select(first_lanes(end < 0 ? 0 : end), scores, hidden);
  if (begin > 0) scores = select(first_lanes(begin > 16 ? 16 : begin), hidden, scores);
  return scores;
}

VIVACE_INLINE V16 scale_scores(const AttentionLayer& layer, V16 scores) {
  if (layer.softcap == 0.0f) return scores * broadcast(layer.scale * kLog2E);
  const V16 cap = broadcast(layer.softcap);
  return broadcast(layer.softcap * kLog2E) * tanh(scores * broadcast(layer.scale) / cap);
}

// Scales one row's scores in place, hides what it does not see and returns the largest.
VIVACE_INLINE float scale_row(const AttentionLayer& layer, float* scores, Visible seen,
                              PageRange pages, float largest) {
  V16 top = broadcast(largest);
  for (int p = pages.begin; p < pages.end; ++p) {
    V16 s = scale_scores(layer, load(scores + 16 * p));
    if (16 * p < seen.begin || 16 * p + 16 > seen.end) s = hide(s, seen, 16 * p);
    store(scores + 16 * p, s);
    top = max(top, s);
  }
  return reduce_max(top);
}

// Cache lines that are brought in for each sixteen scores of a row.
constexpr int kSoftmaxLines = 2;

// Turns one row's scaled scores into powers relative to the largest; returns their sums by lane.
template <class Step>
VIVACE_INLINE V16 raise_row(const float* scores, float largest, PageRange pages,
                            char* probabilities, Ahead& ahead) {
  V16 sum = zero();
  for (int p = pages.begin; p < pages.end; ++p) {
    Ahead::fetch(ahead, kSoftmaxLines);
    const V16 power = exp2(load(scores + 16 * p) - broadcast(largest));
    Step::put(probabilities, 16 * p, power);
    sum = sum + power;
  }
  return sum;
}

// Moves rows to their new largest scores.
VIVACE_INLINE void raise_largest(const SoftmaxBlock& block, const float* largest) {
  const V16 before = load_partial(block.states.largest, block.rows);
  const V16 now = load_partial(largest, block.rows);
  store_partial(block.factors, exp2(before - now), block.rows);
  store_partial(block.states.largest, now, block.rows);
}

// Turns a block's scores of `pages` into probabilities relative to each row's new largest score.
template <class Step>
VIVACE_INLINE void soften(const AttentionLayer& layer, const SoftmaxBlock& block,
                          const Visible* seen, PageRange pages, Ahead& ahead) {
  float largest[kMaxBlockRows];
  for (int r = 0; r < block.rows; ++r) {
    largest[r] = scale_row(layer, block.scores + r * kBlockTokens, seen[r], pages,
                           block.states.largest[r]);
  }
  raise_largest(block, largest);
  for (int r = 0; r < block.rows; ++r) {
    const V16 sum = raise_row<Step>(block.scores + r * kBlockTokens, largest[r], pages,
                                    block.probabilities + r * std::int64_t(kProbabilityStride),
                                    ahead);
    float* total = block.states.row(r) + block.states.width - 16;
    store(total, fma(load(total), broadcast(block.factors[r]), sum));
  }
}

}  // namespace vivace::VIVACE_ISA
