// Where the likeliest of many values reach a goal: selection without sorting.
//
// A value counts for its measure: one, or its weight. Measures are whole multiples of 1/2 and all
// sums of them below 2^52, so that they are exact in any order.
#pragma once

#include <cstdint>
#include <cstring>

#include "elementwise_impl.hpp"
#include "simd.hpp"

namespace vivace::VIVACE_ISA {

constexpr int kBins = 256;
constexpr int kBinLanes = 4;    // copies of a bin, so that neighbours do not wait for each other
constexpr int kSample = 256;
constexpr int kSiftFrom = 4096;  // fewer values go straight to the radix select
constexpr int kSiftRounds = 4;

constexpr float kInfinity = __builtin_inff();

// Where a selection ends: of the `equal` values that are `value` it takes `ties`, and of the lesser
// ones none.
struct Reach {
  float value = 0.0f;
  int ties = 0;
  int equal = 0;
};

// --- radix select, from the first bits in which the values differ ---

// Ordered as the values are; both zeros are one.
VIVACE_INLINE std::uint32_t key_of(float value) {
  value += 0.0f;
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits ^ (std::uint32_t(std::int32_t(bits) >> 31) | 0x80000000u);
}

static float value_of(std::uint32_t key) {
  const std::uint32_t bits = key & 0x80000000u ? key ^ 0x80000000u : ~key;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

static float next_above(float value) { return value_of(key_of(value) + 1); }
static float next_below(float value) { return value_of(key_of(value) - 1); }

VIVACE_INLINE int bin_of(float value, int shift) {
  return static_cast<int>(key_of(value) >> shift & (kBins - 1));
}

// The shift that leaves the eight bits from the first one in which values differ; none if they are
// all equal.
VIVACE_INLINE bool find_shift(const float* values, int n, int& shift) {
  std::uint32_t low = ~0u, high = 0;
  for (int i = 0; i < n; ++i) {
    const std::uint32_t key = key_of(values[i]);
    low = key < low ? key : low;
    high = key > high ? key : high;
  }
  if (low == high) return false;
  const int differing = 32 - __builtin_clz(low ^ high);
  shift = differing > 8 ? differing - 8 : 0;
  return true;
}

template <typename Measure>
VIVACE_INLINE void tally(const float* values, int n, int shift, Measure measure, double* bins) {
  std::memset(bins, 0, sizeof(double) * kBins * kBinLanes);
  for_lanes(n, [&](int i, int lanes) {
    alignas(64) float value[16], amount[16];
    const V16 loaded = load_lanes(values + i, lanes);
    store(value, loaded);
    store(amount, measure(loaded));
    for (int lane = 0; lane < lanes; ++lane) {
      bins[bin_of(value[lane], shift) * kBinLanes + lane % kBinLanes] += amount[lane];
    }
  });
}

// The bin in which the likeliest reach `goal`, which becomes what is wanted of that bin.
static int bin_reaching(const double* bins, double& goal) {
  int bin = kBins - 1;
  for (; bin > 0; --bin) {
    const double* const lanes = bins + bin * kBinLanes;
    const double amount = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
    if (goal <= amount) break;
    goal -= amount;
  }
  return bin;
}

// The values of one bin, in their order; `kept` may be `values` itself.
static int narrow(const float* values, int n, int shift, int bin, float* kept) {
  int count = 0;
  for (int i = 0; i < n; ++i) {
    const float value = values[i];
    kept[count] = value;
    count += bin_of(value, shift) == bin;
  }
  return count;
}

template <typename Measure>
VIVACE_INLINE Reach radix_select(const float* values, int n, Measure measure, double goal,
                                 float* kept) {
  double bins[kBins * kBinLanes];
  for (int shift; find_shift(values, n, shift); values = kept) {
    tally(values, n, shift, measure, bins);
    n = narrow(values, n, shift, bin_reaching(bins, goal), kept);
  }
  const double each = first_lane(measure(broadcast(values[0])));
  const int ties = static_cast<int>(goal / each);
  return {values[0], ties * each < goal ? ties + 1 : ties, n};
}

// --- sifting: Floyd and Rivest, "Expected time bounds for selection" (1975), with measures ---

// A range of values, both ends included.
struct Range {
  float low = -kInfinity;
  float high = kInfinity;
};

// kSample values spread over many, highest first: each goes where its rank says.
static void sorted_sample(const float* values, int n, float* sorted) {
  float sample[kSample];
  for (int i = 0; i < kSample; ++i) sample[i] = values[std::int64_t(n) * i / kSample];
  for (int i = 0; i < kSample; ++i) {
    int rank = 0;
    for (int j = 0; j < kSample; ++j) {
      rank += (sample[j] > sample[i]) | ((sample[j] == sample[i]) & (j < i));
    }
    sorted[rank] = sample[i];
  }
}

// Where a sample says that the selection of a share of all measure ends, three standard errors
// either way; but never so low that nothing is left out.
template <typename Measure>
VIVACE_INLINE Range likely_range(const float* values, int n, Measure measure, double share) {
  float sample[kSample], amounts[kSample];
  sorted_sample(values, n, sample);
  double sum = 0.0, squares = 0.0;
  for (int i = 0; i < kSample; i += 16) store(amounts + i, measure(load(sample + i)));
  for (const double amount : amounts) {
    sum += amount;
    squares += amount * amount;
  }
  const double variance = sum > 0.0 ? squares / (sum * sum) : 1.0;  // 1 / the effective size
  const double margin = 3.0 * __builtin_sqrt(share * (1.0 - share) * variance) + 2.0 * variance;
  const double most = share + (margin < (1.0 - share) / 2 ? margin : (1.0 - share) / 2);
  Range range;
  double reached = 0.0;
  for (int i = 0; i < kSample; ++i) {
    if (reached <= (share - margin) * sum) range.high = sample[i];
    reached += amounts[i];
    if (reached >= most * sum) {
      range.low = sample[i];
      break;
    }
  }
  return range;
}

// A sum of V16s in double precision, lane by lane.
struct Sum16 {
  typedef float Floats __attribute__((vector_size(32)));
  typedef double Doubles __attribute__((vector_size(64)));
  Doubles low = {}, high = {};

  void add(V16 amounts) {
    Floats halves[2];
    store(reinterpret_cast<float*>(halves), amounts);
    low += __builtin_convertvector(halves[0], Doubles);
    high += __builtin_convertvector(halves[1], Doubles);
  }
  double total() const {
    const Doubles pairs = low + high;
    double sum = 0.0;
    for (int lane = 0; lane < 8; ++lane) sum += pairs[lane];
    return sum;
  }
};

template <typename Measure>
VIVACE_INLINE double measure_all(const float* values, int n, Measure measure) {
  Sum16 all;
  for_lanes(n, [&](int i, int lanes) {
    const V16 amount = measure(load_lanes(values + i, lanes));
    all.add(lanes == 16 ? amount : select(first_lanes(lanes), amount, zero()));
  });
  return all.total();
}

// Of the values at or above a range's low end, and of those above its high end.
struct Measured {
  double from_low = 0.0;
  double above = 0.0;
};

template <typename Measure>
VIVACE_INLINE Measured measure_by(const float* values, int n, Measure measure, Range range) {
  Sum16 from_low, above;
  const V16 low = broadcast(range.low), high = broadcast(range.high);
  for_lanes(n, [&](int i, int lanes) {
    const V16 value = load_lanes(values + i, lanes);
    V16 amount = measure(value);
    if (lanes < 16) amount = select(first_lanes(lanes), amount, zero());
    from_low.add(select(less(value, low), zero(), amount));
    above.add(select(less(high, value), amount, zero()));
  });
  return {from_low.total(), above.total()};
}

// Those of `values` whose keys are in a range, in their order, and how many.
//   kept: room for n + 16 values; may be `values` or `keys`.
static int sift(const float* keys, int n, Range range, const float* values, float* kept) {
  int count = 0;
  const V16 low = broadcast(range.low), high = broadcast(range.high);
  for_lanes(n, [&](int i, int lanes) {
    const V16 key = load_lanes(keys + i, lanes);
    const unsigned outside = lane_bits(less(key, low)) | lane_bits(less(high, key));
    const unsigned inside = ~outside & lane_bits(first_lanes(lanes));
    count += compress(kept + count, load_lanes(values + i, lanes), inside);
  });
  return count;
}

// Where the likeliest of `values` reach `goal`.
//   total: the measure of all; at least `goal`, which is above 0.
//   kept: room for n + 16 values; may be `values` itself.
template <typename Measure>
VIVACE_INLINE Reach reach(const float* values, int n, Measure measure, double total, double goal,
                          float* kept) {
  for (int round = 0; round < kSiftRounds && n > kSiftFrom; ++round) {
    Range range = likely_range(values, n, measure, goal / total);
    const Measured measured = measure_by(values, n, measure, range);
    if (goal <= measured.above) {
      range = {next_above(range.high), kInfinity};
      total = measured.above;
    } else if (goal <= measured.from_low) {
      goal -= measured.above;
      total = measured.from_low - measured.above;
    } else {
      range = {-kInfinity, next_below(range.low)};
      goal -= measured.from_low;
      total -= measured.from_low;
    }
    const int before = n;
    n = sift(values, n, range, values, kept);
    values = kept;
    if (n > before / 2) break;
  }
  return radix_select(values, n, measure, goal, kept);
}

}  // namespace vivace::VIVACE_ISA
