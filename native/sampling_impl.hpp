// Drawing a token without sorting: see sampling.hpp.
//
// Options keep the likeliest tokens, so what they keep ends at a value: a selection in which each
// token counts for one (top-k) or for its weight (top-p).
#pragma once

#include "elementwise_impl.hpp"
#include "sampling.hpp"
#include "sampling_select.hpp"
#include "simd.hpp"

namespace vivace::VIVACE_ISA {

constexpr int kDrawBlock = 256;  // tokens whose weights are summed together

// What is kept: logits of at least `least`, and from token `end` on only those above it.
struct Cut {
  float least = 0.0f;
  int end = 0;
};

// Of one row.
//   weights: one per token, 0 where it is cut.
//   sums: of the weights of each block.
//   pool: what a selection works on.
struct DrawScratch {
  float* weights;
  float* pool;
  double* sums;
};

static int draw_blocks(int size) { return (size + kDrawBlock - 1) / kDrawBlock; }

static int block_size(int size, int begin) {
  return size - begin < kDrawBlock ? size - begin : kDrawBlock;
}

static std::size_t draw_scratch_bytes(int size) {
  return sizeof(double) * draw_blocks(size) + 2 * sizeof(float) * (size + 16);
}

static DrawScratch draw_scratch(int size, void* memory) {
  double* const sums = static_cast<double*>(memory);
  float* const weights = reinterpret_cast<float*>(sums + draw_blocks(size));
  return {weights, weights + size + 16, sums};
}

// --- weights ---

// exp((logit - best) * inverse_temperature) in units of 2^-32: `weights` of decoding/weights.py,
// operation by operation, so nothing may be fused here.
VIVACE_INLINE V16 weight_of(V16 logits, const DrawTask& task) {
  const V16 x = (logits - broadcast(task.best)) * broadcast(task.inverse_temperature);
  const V16 y = max(x, broadcast(-30.0f));
  const V16 n = round(y * broadcast(1.44269504f));
  const V16 r = y - n * broadcast(0.693359375f) - n * broadcast(-2.12194440e-4f);
  V16 p = broadcast(1.9875691500e-4f);
  p = p * r + broadcast(1.3981999507e-3f);
  p = p * r + broadcast(8.3334519073e-3f);
  p = p * r + broadcast(4.1665795894e-2f);
  p = p * r + broadcast(1.6666665459e-1f);
  p = p * r + broadcast(5.0000001201e-1f);
  const V16 power = p * (r * r) + (r + broadcast(1.0f));
  const V16 weight = scale_exponent(power, n + broadcast(32.0f));
  return select(less(weight, broadcast(0x1p22f)), round(weight), weight);
}

static bool is_all(Cut cut) { return cut.least == -kInfinity; }

VIVACE_INLINE bool any_from(float least, const float* logits, int n) {
  V16 top = broadcast(-kInfinity);
  for_lanes(n, [&](int i, int lanes) {
    const V16 values = load_lanes(logits + i, lanes);
    top = max(top, lanes == 16 ? values : select(first_lanes(lanes), values, top));
  });
  return reduce_max(top) >= least;
}

// Weights of the kept tokens of a block, zeros for others. weight(i, logits) is that of tokens
// i to i + 15. Returns their sum.
template <typename Weight>
VIVACE_INLINE double weigh_block(const DrawTask& task, Cut cut, int begin, Weight weight,
                                 float* weights) {
  const int n = block_size(task.size, begin);
  if (!is_all(cut) && !any_from(cut.least, task.logits + begin, n)) {
    std::memset(weights + begin, 0, sizeof(float) * n);
    return 0.0;
  }
  const V16 least = broadcast(cut.least), above = broadcast(next_above(cut.least));
  Sum16 sum;
  for_lanes(n, [&](int offset, int lanes) {
    const int i = begin + offset, early = cut.end - i;
    const Mask with_ties = first_lanes(early < 0 ? 0 : early > 16 ? 16 : early);
    const V16 logits = load_lanes(task.logits + i, lanes);
    const Mask out = less(logits, select(with_ties, least, above));
    V16 kept = select(out, zero(), weight(i, logits, lanes));
    if (lanes < 16) kept = select(first_lanes(lanes), kept, zero());
    sum.add(kept);
    store_lanes(weights + i, kept, lanes);
  });
  return sum.total();
}

template <typename Weight>
VIVACE_INLINE double weigh(const DrawTask& task, Cut cut, Weight weight, const DrawScratch& to) {
  double total = 0.0;
  for (int begin = 0; begin < task.size; begin += kDrawBlock) {
    const double sum = weigh_block(task, cut, begin, weight, to.weights);
    to.sums[begin / kDrawBlock] = sum;
    total += sum;
  }
  return total;
}

static double weigh_logits(const DrawTask& task, Cut cut, const DrawScratch& to) {
  return weigh(task, cut, [&](int, V16 logits, int) { return weight_of(logits, task); }, to);
}

// As weigh_logits, where the weights of a looser cut stand already.
static double drop_weights(const DrawTask& task, Cut cut, const DrawScratch& in) {
  const auto known = [&](int i, V16, int lanes) { return load_lanes(in.weights + i, lanes); };
  return weigh(task, cut, known, in);
}

// --- cuts ---

constexpr auto kOneEach = [](V16) { return broadcast(1.0f); };

// `cut` made tighter: of the tokens of `last`, the first that it takes.
static Cut tighter(const DrawTask& task, Cut cut, Reach last) {
  if (last.ties == last.equal) return {last.value, last.value > cut.least ? task.size : cut.end};
  int end = 0;
  for (int ties = last.ties; ties > 0; ++end) ties -= task.logits[end] == last.value;
  return {last.value, end};
}

static Cut cut_by_count(const DrawTask& task, Cut cut, float* pool) {
  const Reach last = reach(task.logits, task.size, kOneEach, task.size, task.count, pool);
  return last.value < cut.least ? cut : tighter(task, cut, last);
}

// Selects among weights, and among the logits of those that are equal.
static Cut cut_by_mass(const DrawTask& task, Cut cut, double total, const DrawScratch& scratch) {
  const auto same = [](V16 weight) { return weight; };
  const float* weights = scratch.weights;
  int n = task.size;
  if (!is_all(cut)) {  // what is left may be little
    n = sift(weights, n, {0.5f, kInfinity}, weights, scratch.pool);
    weights = scratch.pool;
  }
  const Reach last = reach(weights, n, same, total, task.top_p * total, scratch.pool);
  const Range equal = {last.value, last.value};
  sift(scratch.weights, task.size, equal, task.logits, scratch.pool);
  return tighter(task, cut,
                 reach(scratch.pool, last.equal, kOneEach, last.equal, last.ties, scratch.pool));
}

// --- the draw ---

// The token at `place` of the weights' cumulative sum, which is above it.
static int token_at(double place, const DrawScratch& row) {
  int i = 0;
  for (; row.sums[i / kDrawBlock] <= place; i += kDrawBlock) place -= row.sums[i / kDrawBlock];
  for (; row.weights[i] <= place; ++i) place -= row.weights[i];
  return i;
}

static int draw(const DrawTask& task, void* memory) {
  const DrawScratch scratch = draw_scratch(task.size, memory);
  Cut cut = {task.least, task.size};
  if (task.count < task.size) cut = cut_by_count(task, cut, scratch.pool);
  double total = weigh_logits(task, cut, scratch);
  if (task.top_p < 1.0) {
    cut = cut_by_mass(task, cut, total, scratch);
    total = drop_weights(task, cut, scratch);
  }
  return token_at(task.uniform * total, scratch);
}

constexpr SamplingKernels kSamplingKernels = {
    .scratch_bytes = draw_scratch_bytes,
    .draw = draw,
};

}  // namespace vivace::VIVACE_ISA
