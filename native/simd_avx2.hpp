// Sixteen floats in two registers: the avx2 level. See simd.hpp for the contract.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace vivace::VIVACE_ISA {

struct V16 {
  __m256 lo, hi;
};
struct Mask {
  __m256 lo, hi;
};
struct I16 {
  __m256i lo, hi;
};

#define VIVACE_INLINE static inline __attribute__((always_inline))

VIVACE_INLINE V16 zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
VIVACE_INLINE V16 broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
VIVACE_INLINE Mask first_lanes(int n) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), lanes)),
          _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n - 8), lanes))};
}

VIVACE_INLINE unsigned lane_bits(Mask m) {
  return unsigned(_mm256_movemask_ps(m.lo)) | unsigned(_mm256_movemask_ps(m.hi)) << 8;
}

VIVACE_INLINE V16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
VIVACE_INLINE V16 load_partial(const float* p, int n) {
  const Mask m = first_lanes(n);
  return {_mm256_maskload_ps(p, _mm256_castps_si256(m.lo)),
          _mm256_maskload_ps(p + 8, _mm256_castps_si256(m.hi))};
}
VIVACE_INLINE void store(float* p, V16 a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
VIVACE_INLINE void store_partial(float* p, V16 a, int n) {
  const Mask m = first_lanes(n);
  _mm256_maskstore_ps(p, _mm256_castps_si256(m.lo), a.lo);
  _mm256_maskstore_ps(p + 8, _mm256_castps_si256(m.hi), a.hi);
}

VIVACE_INLINE V16 operator+(V16 a, V16 b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
VIVACE_INLINE V16 operator-(V16 a, V16 b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
VIVACE_INLINE V16 operator*(V16 a, V16 b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
VIVACE_INLINE V16 operator/(V16 a, V16 b) {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
VIVACE_INLINE V16 fma(V16 a, V16 b, V16 c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
VIVACE_INLINE V16 min(V16 a, V16 b) {
  return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}
VIVACE_INLINE V16 max(V16 a, V16 b) {
  return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
VIVACE_INLINE V16 sqrt(V16 a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
VIVACE_INLINE V16 abs(V16 a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}
VIVACE_INLINE V16 round(V16 a) {
  return {_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
          _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

VIVACE_INLINE Mask less(V16 a, V16 b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)};
}
VIVACE_INLINE V16 select(Mask m, V16 a, V16 b) {
  return {_mm256_blendv_ps(b.lo, a.lo, m.lo), _mm256_blendv_ps(b.hi, a.hi, m.hi)};
}

// a * 2^n for whole n in [-252, 254], in two steps so that the result may leave the normal range.
VIVACE_INLINE __m256 scale_exponent8(__m256 a, __m256 n) {
  const __m256i whole = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(whole, 1);
  const __m256i rest = _mm256_sub_epi32(whole, half);
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256i p = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
  const __m256i q = _mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23);
  return _mm256_mul_ps(_mm256_mul_ps(a, _mm256_castsi256_ps(p)), _mm256_castsi256_ps(q));
}
VIVACE_INLINE V16 scale_exponent(V16 a, V16 n) {
  return {scale_exponent8(a.lo, n.lo), scale_exponent8(a.hi, n.hi)};
}

// Sums and maxima as trees over halves: lanes i and i + 8, then + 4, + 2, + 1, at every level.
VIVACE_INLINE float first_lane(V16 a) { return _mm256_cvtss_f32(a.lo); }
VIVACE_INLINE float reduce_add(V16 a) {
  const __m256 eight = _mm256_add_ps(a.lo, a.hi);
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
VIVACE_INLINE float reduce_max(V16 a) {
  const __m256 eight = _mm256_max_ps(a.lo, a.hi);
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

VIVACE_INLINE __m256 widen_bf16(__m128i half) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
VIVACE_INLINE V16 load_bf16(const std::uint16_t* p) {
  return {widen_bf16(_mm_loadu_si128((const __m128i*)p)),
          widen_bf16(_mm_loadu_si128((const __m128i*)(p + 8)))};
}
VIVACE_INLINE V16 load_bf16_partial(const std::uint16_t* p, int n) {
  std::uint16_t whole[16] = {};
  std::memcpy(whole, p, 2 * n);
  return load_bf16(whole);
}
// Round to nearest even; a NaN stays a NaN. Each lane's result is in its lower half.
VIVACE_INLINE __m256i round_bf16_bits(__m256 a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
  const __m256i rounded = _mm256_add_epi32(bits, up);
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  return _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
}
VIVACE_INLINE void store_bf16(std::uint16_t* p, V16 a) {
  const __m256i packed = _mm256_packus_epi32(round_bf16_bits(a.lo), round_bf16_bits(a.hi));
  _mm256_storeu_si256((__m256i*)p, _mm256_permute4x64_epi64(packed, 0xd8));
}
VIVACE_INLINE void store_bf16_partial(std::uint16_t* p, V16 a, int n) {
  std::uint16_t whole[16];
  store_bf16(whole, a);
  std::memcpy(p, whole, 2 * n);
}

VIVACE_INLINE V16 load_f16(const std::uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)),
          _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 8)))};
}
VIVACE_INLINE V16 load_f16_partial(const std::uint16_t* p, int n) {
  std::uint16_t whole[16] = {};
  std::memcpy(whole, p, 2 * n);
  return load_f16(whole);
}

// Sixteen pairs of bfloat16 as their even and odd members.
VIVACE_INLINE void load_bf16_pairs(const std::uint16_t* p, V16& even, V16& odd) {
  const __m256i a = _mm256_loadu_si256((const __m256i*)p);
  const __m256i b = _mm256_loadu_si256((const __m256i*)(p + 16));
  const __m256i high = _mm256_set1_epi32(int(0xffff0000u));
  even = {_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(b, 16))};
  odd = {_mm256_castsi256_ps(_mm256_and_si256(a, high)),
         _mm256_castsi256_ps(_mm256_and_si256(b, high))};
}

VIVACE_INLINE __m256i join_bf16(__m256 even, __m256 odd) {
  return _mm256_or_si256(round_bf16_bits(even), _mm256_slli_epi32(round_bf16_bits(odd), 16));
}
VIVACE_INLINE void store_bf16_pairs(std::uint16_t* p, V16 even, V16 odd) {
  _mm256_storeu_si256((__m256i*)p, join_bf16(even.lo, odd.lo));
  _mm256_storeu_si256((__m256i*)(p + 16), join_bf16(even.hi, odd.hi));
}

VIVACE_INLINE std::uint16_t to_f16(float x) {
  return static_cast<std::uint16_t>(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT));
}

VIVACE_INLINE I16 broadcast_int(std::int32_t x) {
  return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}
VIVACE_INLINE I16 load_bytes(const std::uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128((const __m128i*)p);
  return {_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))};
}
VIVACE_INLINE void split_nibbles(I16 bytes, I16& low, I16& high) {
  const __m256i mask = _mm256_set1_epi32(15);
  low = {_mm256_and_si256(bytes.lo, mask), _mm256_and_si256(bytes.hi, mask)};
  high = {_mm256_srli_epi32(bytes.lo, 4), _mm256_srli_epi32(bytes.hi, 4)};
}
VIVACE_INLINE I16 operator*(I16 a, I16 b) {
  return {_mm256_mullo_epi32(a.lo, b.lo), _mm256_mullo_epi32(a.hi, b.hi)};
}
VIVACE_INLINE V16 to_float(I16 a) {
  return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)};
}
VIVACE_INLINE __m256i to_int16(V16 whole) {
  const __m256i packed =
      _mm256_packs_epi32(_mm256_cvtps_epi32(whole.lo), _mm256_cvtps_epi32(whole.hi));
  return _mm256_permute4x64_epi64(packed, 0xd8);
}
VIVACE_INLINE void store_bytes(void* p, V16 whole) {
  const __m256i low = _mm256_and_si256(to_int16(whole), _mm256_set1_epi16(0xff));
  const __m128i bytes =
      _mm_packus_epi16(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
  _mm_storeu_si128((__m128i*)p, bytes);
}

// Bytes are multiplied as 16-bit integers, whose pairs cannot saturate: a row's step holds its
// codes 0 and 2, then 1 and 3, as they come out of a column's word by masks.
constexpr int kCodeRowBytes = 8;
struct Codes {
  __m256i even[2], odd[2];
};
VIVACE_INLINE void put_codes(char* row, int k, V16 whole) {
  const __m256i order = _mm256_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15, 0, 1,
                                         4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
  _mm256_storeu_si256((__m256i*)(row + 2 * k), _mm256_shuffle_epi8(to_int16(whole), order));
}
VIVACE_INLINE void split_codes(const char* p, int shift, int mask, Codes& codes) {
  const __m256i low = _mm256_set1_epi16(static_cast<short>(mask));
  for (int i = 0; i < 2; ++i) {
    const __m256i words = _mm256_loadu_si256((const __m256i*)p + i);
    codes.even[i] = _mm256_and_si256(_mm256_srli_epi16(words, shift), low);
    codes.odd[i] = _mm256_and_si256(_mm256_srli_epi16(words, 8 + shift), low);
  }
}
VIVACE_INLINE Codes load_codes(const char* p) {
  Codes codes;
  split_codes(p, 0, 0xff, codes);
  return codes;
}
VIVACE_INLINE void load_nibbles(const char* p, Codes& low, Codes& high) {
  split_codes(p, 0, 15, low);
  split_codes(p, 4, 15, high);
}
VIVACE_INLINE I16 dot(I16 sum, const char* row, const Codes& codes) {
  int pairs[2];
  std::memcpy(pairs, row, 8);
  const __m256i even = _mm256_set1_epi32(pairs[0]), odd = _mm256_set1_epi32(pairs[1]);
  sum.lo = _mm256_add_epi32(sum.lo, _mm256_madd_epi16(codes.even[0], even));
  sum.hi = _mm256_add_epi32(sum.hi, _mm256_madd_epi16(codes.even[1], even));
  sum.lo = _mm256_add_epi32(sum.lo, _mm256_madd_epi16(codes.odd[0], odd));
  sum.hi = _mm256_add_epi32(sum.hi, _mm256_madd_epi16(codes.odd[1], odd));
  return sum;
}

// Nibbles at `shift` of sixteen words.
VIVACE_INLINE I16 load_nibbles_at(const char* p, int shift) {
  const __m256i mask = _mm256_set1_epi32(15);
  const __m256i lo = _mm256_loadu_si256((const __m256i*)p);
  const __m256i hi = _mm256_loadu_si256((const __m256i*)p + 1);
  return {_mm256_and_si256(_mm256_srli_epi32(lo, shift), mask),
          _mm256_and_si256(_mm256_srli_epi32(hi, shift), mask)};
}

}  // namespace vivace::VIVACE_ISA

#include "simd_math.hpp"
#include "simd_wide.hpp"
