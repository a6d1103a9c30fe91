// Sixteen floats in one register: the avx512, avx512bf16 and amx levels, the last two with
// bfloat16 dot products (VIVACE_BF16_DOT). See simd.hpp for the contract.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace vivace::VIVACE_ISA {

struct V16 {
  __m512 v;
};
using Mask = __mmask16;
struct I16 {
  __m512i v;
};

#define VIVACE_INLINE static inline __attribute__((always_inline))

VIVACE_INLINE V16 zero() { return {_mm512_setzero_ps()}; }
VIVACE_INLINE V16 broadcast(float x) { return {_mm512_set1_ps(x)}; }
VIVACE_INLINE Mask first_lanes(int n) { return static_cast<Mask>((1u << n) - 1u); }

VIVACE_INLINE unsigned lane_bits(Mask m) { return m; }
VIVACE_INLINE int compress(float* p, V16 a, unsigned bits) {
  _mm512_storeu_ps(p, _mm512_maskz_compress_ps(static_cast<Mask>(bits), a.v));
  return __builtin_popcount(bits);
}

VIVACE_INLINE V16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
VIVACE_INLINE V16 load_partial(const float* p, int n) {
  return {_mm512_maskz_loadu_ps(first_lanes(n), p)};
}
VIVACE_INLINE void store(float* p, V16 a) { _mm512_storeu_ps(p, a.v); }
VIVACE_INLINE void store_partial(float* p, V16 a, int n) {
  _mm512_mask_storeu_ps(p, first_lanes(n), a.v);
}

VIVACE_INLINE V16 operator+(V16 a, V16 b) { return {_mm512_add_ps(a.v, b.v)}; }
VIVACE_INLINE V16 operator-(V16 a, V16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
VIVACE_INLINE V16 operator*(V16 a, V16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
VIVACE_INLINE V16 operator/(V16 a, V16 b) { return {_mm512_div_ps(a.v, b.v)}; }
VIVACE_INLINE V16 fma(V16 a, V16 b, V16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
VIVACE_INLINE V16 min(V16 a, V16 b) { return {_mm512_min_ps(a.v, b.v)}; }
VIVACE_INLINE V16 max(V16 a, V16 b) { return {_mm512_max_ps(a.v, b.v)}; }
VIVACE_INLINE V16 sqrt(V16 a) { return {_mm512_sqrt_ps(a.v)}; }
VIVACE_INLINE V16 abs(V16 a) { return {_mm512_abs_ps(a.v)}; }
VIVACE_INLINE V16 round(V16 a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

VIVACE_INLINE Mask less(V16 a, V16 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ); }
VIVACE_INLINE V16 select(Mask m, V16 a, V16 b) { return {_mm512_mask_blend_ps(m, b.v, a.v)}; }

// a * 2^n for whole n; overflow gives infinity, underflow a subnormal or zero.
VIVACE_INLINE V16 scale_exponent(V16 a, V16 n) { return {_mm512_scalef_ps(a.v, n.v)}; }

// Sums and maxima as trees over halves: lanes i and i + 8, then + 4, + 2, + 1, at every level.
VIVACE_INLINE float first_lane(V16 a) { return _mm512_cvtss_f32(a.v); }
VIVACE_INLINE float reduce_add(V16 a) {
  a = a + V16{_mm512_shuffle_f32x4(a.v, a.v, 0x4e)};
  a = a + V16{_mm512_shuffle_f32x4(a.v, a.v, 0xb1)};
  a = a + V16{_mm512_permute_ps(a.v, 0x4e)};
  return first_lane(a + V16{_mm512_permute_ps(a.v, 0xb1)});
}
VIVACE_INLINE float reduce_max(V16 a) {
  a = max(a, V16{_mm512_shuffle_f32x4(a.v, a.v, 0x4e)});
  a = max(a, V16{_mm512_shuffle_f32x4(a.v, a.v, 0xb1)});
  a = max(a, V16{_mm512_permute_ps(a.v, 0x4e)});
  return first_lane(max(a, V16{_mm512_permute_ps(a.v, 0xb1)}));
}

VIVACE_INLINE V16 load_bf16(const std::uint16_t* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
VIVACE_INLINE V16 load_bf16_partial(const std::uint16_t* p, int n) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_lanes(n), p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
#if defined(VIVACE_BF16_DOT)
VIVACE_INLINE __m256i to_bf16(V16 a) { return (__m256i)_mm512_cvtneps_pbh(a.v); }
#else
// Round to nearest even; a NaN stays a NaN.
VIVACE_INLINE __m256i to_bf16(V16 a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded =
      _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const Mask nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(
      _mm512_srli_epi32(_mm512_mask_blend_epi32(nan, rounded, quiet), 16));
}
#endif
VIVACE_INLINE void store_bf16(std::uint16_t* p, V16 a) {
  _mm256_storeu_si256((__m256i*)p, to_bf16(a));
}
VIVACE_INLINE void store_bf16_partial(std::uint16_t* p, V16 a, int n) {
  _mm256_mask_storeu_epi16(p, first_lanes(n), to_bf16(a));
}

VIVACE_INLINE V16 load_f16(const std::uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p))};
}
VIVACE_INLINE V16 load_f16_partial(const std::uint16_t* p, int n) {
  return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p))};
}

// Sixteen pairs of bfloat16 as their even and odd members.
VIVACE_INLINE void load_bf16_pairs(const std::uint16_t* p, V16& even, V16& odd) {
  const __m512i pairs = _mm512_loadu_si512(p);
  even.v = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
  odd.v = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(int(0xffff0000u))));
}

VIVACE_INLINE void store_bf16_pairs(std::uint16_t* p, V16 even, V16 odd) {
  const __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(to_bf16(odd)), 16);
  _mm512_storeu_si512(p, _mm512_or_si512(_mm512_cvtepu16_epi32(to_bf16(even)), high));
}

VIVACE_INLINE std::uint16_t to_f16(float x) {
  return static_cast<std::uint16_t>(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT));
}

VIVACE_INLINE I16 broadcast_int(std::int32_t x) { return {_mm512_set1_epi32(x)}; }
VIVACE_INLINE I16 load_bytes(const std::uint8_t* p) {
  return {_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p))};
}
VIVACE_INLINE void split_nibbles(I16 bytes, I16& low, I16& high) {
  low.v = _mm512_and_si512(bytes.v, _mm512_set1_epi32(15));
  high.v = _mm512_srli_epi32(bytes.v, 4);
}
VIVACE_INLINE I16 operator*(I16 a, I16 b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
VIVACE_INLINE V16 to_float(I16 a) { return {_mm512_cvtepi32_ps(a.v)}; }
VIVACE_INLINE void store_bytes(void* p, V16 whole) {
  _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(whole.v)));
}

// VNNI multiplies codes as they are stored.
constexpr int kCodeRowBytes = 4;
struct Codes {
  __m512i v;
};
VIVACE_INLINE void put_codes(char* row, int k, V16 whole) { store_bytes(row + k, whole); }
VIVACE_INLINE Codes load_codes(const char* p) { return {_mm512_loadu_si512(p)}; }
VIVACE_INLINE void load_nibbles(const char* p, Codes& low, Codes& high) {
  const __m512i both = _mm512_loadu_si512(p), mask = _mm512_set1_epi8(15);
  low.v = _mm512_and_si512(both, mask);
  high.v = _mm512_and_si512(_mm512_srli_epi16(both, 4), mask);
}
VIVACE_INLINE I16 dot(I16 sum, const char* row, Codes codes) {
  int four;
  std::memcpy(&four, row, 4);
  return {_mm512_dpbusd_epi32(sum.v, codes.v, _mm512_set1_epi32(four))};
}

#if defined(VIVACE_BF16_DOT)

// Codes less their zero points as bfloat16, which is exact: pairs 0 and 2, and 1 and 3.
constexpr int kWideRowBytes = 8;
struct WideCodes {
  __m512i even, odd;
};
// 16 less the zero point, in every byte of a column.
struct WideZeros {
  __m512i low, high;
};
VIVACE_INLINE WideZeros wide_zeros(I16 low, I16 high) {
  const __m512i bytes = _mm512_set1_epi32(0x01010101), middle = _mm512_set1_epi8(16);
  return {_mm512_sub_epi8(middle, _mm512_mullo_epi32(low.v, bytes)),
          _mm512_sub_epi8(middle, _mm512_mullo_epi32(high.v, bytes))};
}
VIVACE_INLINE void put_wide(char* row, int k, V16 values) {
  store_bf16((std::uint16_t*)row + k, {_mm512_permute_ps(values.v, 0xd8)});
}
VIVACE_INLINE WideCodes widen(__m512i codes, __m512i zeros) {
  // -16 to 15.
  const __m512i values = _mm512_set_epi16(
      0x4170, 0x4160, 0x4150, 0x4140, 0x4130, 0x4120, 0x4110, 0x4100, 0x40e0, 0x40c0, 0x40a0,
      0x4080, 0x4040, 0x4000, 0x3f80, 0x0000, -0x4080, -0x4000, -0x3fc0, -0x3f80, -0x3f60, -0x3f40,
      -0x3f20, -0x3f00, -0x3ef0, -0x3ee0, -0x3ed0, -0x3ec0, -0x3eb0, -0x3ea0, -0x3e90, -0x3e80);
  const __m512i index = _mm512_add_epi8(codes, zeros);
  return {_mm512_permutexvar_epi16(index, values),
          _mm512_permutexvar_epi16(_mm512_srli_epi16(index, 8), values)};
}
VIVACE_INLINE void load_wide(const char* p, const WideZeros& zeros, WideCodes& low,
                             WideCodes& high) {
  Codes narrow_low, narrow_high;
  load_nibbles(p, narrow_low, narrow_high);
  low = widen(narrow_low.v, zeros.low);
  high = widen(narrow_high.v, zeros.high);
}
VIVACE_INLINE V16 dot(V16 sum, const char* row, const WideCodes& codes) {
  int pairs[2];
  std::memcpy(pairs, row, 8);
  sum.v = _mm512_dpbf16_ps(sum.v, (__m512bh)_mm512_set1_epi32(pairs[0]), (__m512bh)codes.even);
  sum.v = _mm512_dpbf16_ps(sum.v, (__m512bh)_mm512_set1_epi32(pairs[1]), (__m512bh)codes.odd);
  return sum;
}

#else

VIVACE_INLINE I16 load_nibbles_at(const char* p, int shift) {
  return {_mm512_and_si512(_mm512_srli_epi32(_mm512_loadu_si512(p), shift),
                           _mm512_set1_epi32(15))};
}

#endif

}  // namespace vivace::VIVACE_ISA

#if !defined(VIVACE_BF16_DOT)
#include "simd_wide.hpp"
#endif
#include "simd_math.hpp"
