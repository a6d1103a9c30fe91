// The SIMD layer, compiled once per level: functions against the standard library in double
// precision, conversions over all their values, lane order of reductions.
#include "simd.hpp"

#include "support.hpp"

namespace vivace::VIVACE_ISA {

void test_simd(tests::Checks& checks);

namespace {

using Function = V16 (*)(V16);
using Expected = double (*)(double);

float apply(Function function, float x) { return first_lane(function(broadcast(x))); }

// Largest of |difference| / (1e-30 + scale(expected)) over [low, high].
double worst_error(Function function, Expected expected, double low, double high, bool relative) {
  constexpr int kSteps = 20000;
  double worst = 0;
  for (int i = 0; i <= kSteps; ++i) {
    const float x = static_cast<float>(low + (high - low) * i / kSteps);
    const double right = expected(x);
    const double error = std::fabs(apply(function, x) - right);
    const double scaled = relative ? error / (1e-30 + std::fabs(right)) : error;
    worst = scaled <= worst ? worst : scaled;
  }
  return worst;
}

void test_functions(tests::Checks& checks) {
  const auto sigmoid_of = [](double x) { return 1 / (1 + std::exp(-x)); };
  const auto silu_of = [](double x) { return x / (1 + std::exp(-x)); };
  const auto gelu_of = [](double x) { return 0.5 * x * std::erfc(-x * std::sqrt(0.5)); };
  const auto gelu_tanh_of = [](double x) {
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  };
  const struct {
    const char* name;
    Function function;
    Expected expected;
    double low, high;
    bool relative;
    double bound;
  } cases[] = {
      {"exp", exp, std::exp, -87, 88.6, true, 3e-7},
      {"tanh", tanh, std::tanh, -12, 12, true, 4e-7},
      {"erfc", erfc, std::erfc, -6, 6, true, 4e-6},
      {"sigmoid", sigmoid, sigmoid_of, -80, 80, true, 4e-7},
      {"silu", silu, silu_of, -80, 80, true, 5e-7},
      {"gelu", gelu, gelu_of, -10, 10, false, 1e-6},
      {"gelu_tanh", gelu_tanh, gelu_tanh_of, -10, 10, false, 1e-6},
  };
  for (const auto& one : cases) {
    const double worst = worst_error(one.function, one.expected, one.low, one.high, one.relative);
    checks.that(worst < one.bound, "%s: error %g", one.name, worst);
  }
}

void test_extremes(tests::Checks& checks) {
  const float infinity = __builtin_inff();
  checks.that(apply(exp, -infinity) == 0, "exp(-inf) is %g", apply(exp, -infinity));
  checks.that(apply(exp, -1e38f) == 0, "exp(-1e38) is %g", apply(exp, -1e38f));
  checks.that(apply(exp, 0) == 1, "exp(0) is %g", apply(exp, 0));
  checks.that(apply(exp, 100) == infinity, "exp(100) is %g", apply(exp, 100));
  checks.that(apply(tanh, 1e30f) == 1, "tanh(1e30) is %g", apply(tanh, 1e30f));
  checks.that(apply(tanh, -1e30f) == -1, "tanh(-1e30) is %g", apply(tanh, -1e30f));
  checks.that(apply(silu, -1e30f) == 0, "silu(-1e30) is %g", apply(silu, -1e30f));
  checks.that(apply(gelu, -1e10f) == 0, "gelu(-1e10) is %g", apply(gelu, -1e10f));
  for (const Function function : {exp, tanh, erfc, sigmoid, silu, gelu, gelu_tanh}) {
    checks.that(std::isnan(apply(function, NAN)), "a function of NaN is a number");
  }
}

void test_bfloat16(tests::Checks& checks) {
  std::mt19937 random(3);
  for (int i = 0; i < 20000; ++i) {
    std::uint32_t bits = random();
    if (i % 2) bits = (bits & 0xffff0000u) | 0x8000u;  // halfway between two
    float value;
    std::memcpy(&value, &bits, 4);
    if (!std::isnormal(value)) continue;
    std::uint16_t rounded[16];
    store_bf16(rounded, broadcast(value));
    checks.that(rounded[7] == tests::narrow(value), "%g rounds to %x", value, rounded[7]);
    checks.that(first_lane(load_bf16(rounded)) == tests::widen(rounded[0]), "bf16 load");
  }
  std::uint16_t nan[16];
  store_bf16(nan, broadcast(NAN));
  checks.that(std::isnan(tests::widen(nan[15])), "a NaN rounds to %x", nan[15]);
}

void test_pairs(tests::Checks& checks) {
  std::mt19937 random(4);
  const std::vector<float> even = tests::random_values(random, 16);
  const std::vector<float> odd = tests::random_values(random, 16);
  std::uint16_t pairs[32];
  store_bf16_pairs(pairs, load(even.data()), load(odd.data()));
  for (int i = 0; i < 16; ++i) {
    checks.that(pairs[2 * i] == tests::narrow(even[i]), "even %d of pairs", i);
    checks.that(pairs[2 * i + 1] == tests::narrow(odd[i]), "odd %d of pairs", i);
  }
}

void test_nibbles(tests::Checks& checks) {
  std::uint8_t bytes[16];
  for (int first = 0; first < 256; first += 16) {
    for (int i = 0; i < 16; ++i) bytes[i] = static_cast<std::uint8_t>(first + i);
    I16 low, high;
    split_nibbles(load_bytes(bytes), low, high);
    float lows[16], highs[16];
    store(lows, to_float(low));
    store(highs, to_float(high));
    for (int i = 0; i < 16; ++i) {
      checks.that(lows[i] == i && highs[i] == first / 16, "nibbles of %d: %g, %g", first + i,
                  lows[i], highs[i]);
    }
  }
}

void test_float16(tests::Checks& checks) {
  for (int bits = 0; bits < 0x10000; ++bits) {
    std::uint16_t halves[16] = {static_cast<std::uint16_t>(bits)};
    _Float16 half;
    std::memcpy(&half, halves, 2);
    const float expected = static_cast<float>(half);
    const float got = first_lane(load_f16(halves));
    const bool same = std::isnan(expected) ? std::isnan(got) : got == expected;
    checks.that(same, "half %x is %g, not %g", bits, got, expected);
  }
}

void test_lanes(tests::Checks& checks) {
  std::mt19937 random(5);
  const std::vector<float> values = tests::random_values(random, 16, 1e4f);
  float tree[16];
  std::memcpy(tree, values.data(), sizeof tree);
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) tree[i] += tree[i + width];
  }
  const float sum = reduce_add(load(values.data()));
  checks.that(sum == tree[0], "sum of lanes is %g, not %g", sum, tree[0]);
  for (int n = 0; n <= 16; ++n) {
    float stored[17];
    for (float& x : stored) x = 7;
    store_partial(stored, load_partial(values.data(), n), n);
    for (int i = 0; i < 17; ++i) {
      checks.that(stored[i] == (i < n ? values[i] : 7), "lane %d of %d", i, n);
    }
    float selected[16], largest = n > 0 ? values[0] : -1e9f;
    store(selected, select(first_lanes(n), load(values.data()), broadcast(-1e9f)));
    for (int i = 0; i < n; ++i) largest = values[i] > largest ? values[i] : largest;
    checks.that(reduce_max(load(selected)) == largest, "largest of %d lanes", n);
  }
}

}  // namespace

void test_simd(tests::Checks& checks) {
  test_functions(checks);
  test_extremes(checks);
  test_bfloat16(checks);
  test_pairs(checks);
  test_nibbles(checks);
  test_float16(checks);
  test_lanes(checks);
}

}  // namespace vivace::VIVACE_ISA
