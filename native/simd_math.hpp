// Elementary functions on V16: one text for every level.
#pragma once

namespace vivace::VIVACE_ISA {

VIVACE_INLINE V16 negate(V16 a) { return zero() - a; }

#if !defined(VIVACE_SIMD_AVX512)
VIVACE_INLINE int compress(float* p, V16 a, unsigned bits) {
  if (bits == 0) return 0;
  float lanes[16];
  store(lanes, a);
  int count = 0;
  for (int i = 0; i < 16; ++i) {
    p[count] = lanes[i];
    count += bits >> i & 1;
  }
  return count;
}
#endif

// Polynomial with coefficients from the highest power down (Horner).
template <int N>
VIVACE_INLINE V16 polynomial(V16 x, const float (&c)[N]) {
  V16 sum = broadcast(c[0]);
  for (int i = 1; i < N; ++i) sum = fma(sum, x, broadcast(c[i]));
  return sum;
}

// e^x within 2 ulp: x = n ln 2 + r, then a polynomial in r (coefficients of Cephes expf).
// Overflow gives infinity, NaN gives NaN; what would be subnormal gives zero, which is faster.
VIVACE_INLINE V16 exp(V16 x) {
  const V16 lowest = broadcast(-87.33654f);
  // min and max return their second operand when either is NaN.
  const V16 y = min(broadcast(89.0f), max(lowest, x));
  const V16 n = round(y * broadcast(1.44269504f));
  V16 r = fma(n, broadcast(-0.693359375f), y);
  r = fma(n, broadcast(2.12194440e-4f), r);
  const V16 p = polynomial(r, {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                               4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f});
  const V16 power = scale_exponent(fma(p, r * r, r + broadcast(1.0f)), n);
  return select(less(x, lowest), zero(), power);
}

// 2^x within 2 ulp for x up to 127, 1 for 0; what would be subnormal gives zero, which is faster.
VIVACE_INLINE V16 exp2(V16 x) {
  const V16 lowest = broadcast(-126.0f);
  const V16 y = max(lowest, x);
  const V16 n = round(y);
  const V16 p = polynomial(y - n, {1.53450153e-4f, 1.33999309e-3f, 9.61848907e-3f,
                                   5.55032864e-2f, 2.40226462e-1f, 6.93147182e-1f, 1.0f});
  return select(less(x, lowest), zero(), scale_exponent(p, n));
}

VIVACE_INLINE V16 sigmoid(V16 x) {
  const V16 one = broadcast(1.0f);
  return one / (one + exp(negate(x)));
}

// Cephes tanhf: an odd polynomial near zero, 1 - 2 / (e^2x + 1) elsewhere.
VIVACE_INLINE V16 tanh(V16 x) {
  const V16 z = x * x;
  const V16 p = polynomial(z, {-5.70498872745e-3f, 2.06390887954e-2f, -5.37397155531e-2f,
                               1.33314422036e-1f, -3.33332819422e-1f});
  const V16 near_zero = fma(p * z, x, x);
  const V16 far = broadcast(1.0f) - broadcast(2.0f) / (exp(x + x) + broadcast(1.0f));
  return select(less(abs(x), broadcast(0.625f)), near_zero, far);
}

// Complementary error function, relative error 1.2e-7 (Press et al., Numerical Recipes, 6.2).
VIVACE_INLINE V16 erfc(V16 x) {
  const V16 z = abs(x);
  const V16 t = broadcast(1.0f) / fma(z, broadcast(0.5f), broadcast(1.0f));
  const V16 p = polynomial(t, {0.17087277f, -0.82215223f, 1.48851587f, -1.13520398f, 0.27886807f,
                               -0.18628806f, 0.09678418f, 0.37409196f, 1.00002368f, -1.26551223f});
  const V16 tail = t * exp(p - z * z);
  return select(less(x, zero()), broadcast(2.0f) - tail, tail);
}

VIVACE_INLINE V16 silu(V16 x) { return x * sigmoid(x); }

// x times the normal distribution function of x.
VIVACE_INLINE V16 gelu(V16 x) {
  return broadcast(0.5f) * x * erfc(x * broadcast(-0.70710678f));
}

VIVACE_INLINE V16 gelu_tanh(V16 x) {
  const V16 inner = fma(x * x * x, broadcast(0.044715f), x) * broadcast(0.79788456f);
  return broadcast(0.5f) * x * (broadcast(1.0f) + tanh(inner));
}

}  // namespace vivace::VIVACE_ISA
