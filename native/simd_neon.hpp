// Sixteen floats in four registers: the neon level (AArch64 with the dot-product instructions). See
// simd.hpp for the contract.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

namespace vivace::VIVACE_ISA {

struct V16 {
  float32x4_t q[4];
};
struct Mask {
  uint32x4_t q[4];
};
struct I16 {
  int32x4_t q[4];
};

#define VIVACE_INLINE static inline __attribute__((always_inline))

#define VIVACE_EACH(Type, expression)                \
  Type r;                                            \
  for (int i = 0; i < 4; ++i) r.q[i] = (expression); \
  return r

VIVACE_INLINE V16 broadcast(float x) { VIVACE_EACH(V16, vdupq_n_f32(x)); }
VIVACE_INLINE V16 zero() { return broadcast(0.0f); }
VIVACE_INLINE Mask first_lanes(int n) {
  const std::int32_t numbers[] = {0, 1, 2, 3};
  const int32x4_t lanes = vld1q_s32(numbers);
  VIVACE_EACH(Mask, vcltq_s32(lanes, vdupq_n_s32(n - 4 * i)));
}

VIVACE_INLINE V16 load(const float* p) { VIVACE_EACH(V16, vld1q_f32(p + 4 * i)); }
VIVACE_INLINE V16 load_partial(const float* p, int n) {
  float whole[16] = {};
  std::memcpy(whole, p, sizeof(float) * n);
  return load(whole);
}
VIVACE_INLINE void store(float* p, V16 a) {
  for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, a.q[i]);
}
VIVACE_INLINE void store_partial(float* p, V16 a, int n) {
  float whole[16];
  store(whole, a);
  std::memcpy(p, whole, sizeof(float) * n);
}

VIVACE_INLINE V16 operator+(V16 a, V16 b) { VIVACE_EACH(V16, vaddq_f32(a.q[i], b.q[i])); }
VIVACE_INLINE V16 operator-(V16 a, V16 b) { VIVACE_EACH(V16, vsubq_f32(a.q[i], b.q[i])); }
VIVACE_INLINE V16 operator*(V16 a, V16 b) { VIVACE_EACH(V16, vmulq_f32(a.q[i], b.q[i])); }
VIVACE_INLINE V16 operator/(V16 a, V16 b) { VIVACE_EACH(V16, vdivq_f32(a.q[i], b.q[i])); }
VIVACE_INLINE V16 fma(V16 a, V16 b, V16 c) {
  VIVACE_EACH(V16, vfmaq_f32(c.q[i], a.q[i], b.q[i]));
}
VIVACE_INLINE V16 sqrt(V16 a) { VIVACE_EACH(V16, vsqrtq_f32(a.q[i])); }
VIVACE_INLINE V16 abs(V16 a) { VIVACE_EACH(V16, vabsq_f32(a.q[i])); }
VIVACE_INLINE V16 round(V16 a) { VIVACE_EACH(V16, vrndnq_f32(a.q[i])); }

VIVACE_INLINE Mask less(V16 a, V16 b) { VIVACE_EACH(Mask, vcltq_f32(a.q[i], b.q[i])); }
VIVACE_INLINE V16 select(Mask m, V16 a, V16 b) {
  VIVACE_EACH(V16, vbslq_f32(m.q[i], a.q[i], b.q[i]));
}
// As on the other machines, the second operand where either is NaN: vminq would give the NaN.
VIVACE_INLINE V16 min(V16 a, V16 b) { return select(less(a, b), a, b); }
VIVACE_INLINE V16 max(V16 a, V16 b) { return select(less(b, a), a, b); }
VIVACE_INLINE unsigned lane_bits(Mask m) {
  const std::uint32_t weights[] = {1, 2, 4, 8};
  const uint32x4_t bit = vld1q_u32(weights);
  unsigned bits = 0;
  for (int i = 0; i < 4; ++i) bits |= vaddvq_u32(vandq_u32(m.q[i], bit)) << 4 * i;
  return bits;
}

// a * 2^n for whole n in [-252, 254], in two steps so that the result may leave the normal range.
VIVACE_INLINE float32x4_t power_of_two(int32x4_t n) {
  return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}
VIVACE_INLINE float32x4_t scale_exponent4(float32x4_t a, float32x4_t n) {
  const int32x4_t whole = vcvtnq_s32_f32(n);
  const int32x4_t half = vshrq_n_s32(whole, 1);
  return vmulq_f32(vmulq_f32(a, power_of_two(half)), power_of_two(vsubq_s32(whole, half)));
}
VIVACE_INLINE V16 scale_exponent(V16 a, V16 n) {
  VIVACE_EACH(V16, scale_exponent4(a.q[i], n.q[i]));
}

// Sums and maxima as trees over halves: lanes i and i + 8, then + 4, + 2, + 1, at every level.
VIVACE_INLINE float first_lane(V16 a) { return vgetq_lane_f32(a.q[0], 0); }
VIVACE_INLINE float reduce_add(V16 a) {
  const float32x4_t x = vaddq_f32(vaddq_f32(a.q[0], a.q[2]), vaddq_f32(a.q[1], a.q[3]));
  return vpadds_f32(vadd_f32(vget_low_f32(x), vget_high_f32(x)));
}
VIVACE_INLINE float reduce_max(V16 a) {
  const V16 halves = max(a, {{a.q[2], a.q[3], a.q[2], a.q[3]}});
  return vmaxvq_f32(vmaxq_f32(halves.q[0], halves.q[1]));
}

VIVACE_INLINE float32x4_t widen_bf16(uint16x4_t half) {
  return vreinterpretq_f32_u32(vshll_n_u16(half, 16));
}
VIVACE_INLINE V16 load_bf16(const std::uint16_t* p) {
  VIVACE_EACH(V16, widen_bf16(vld1_u16(p + 4 * i)));
}
VIVACE_INLINE V16 load_bf16_partial(const std::uint16_t* p, int n) {
  std::uint16_t whole[16] = {};
  std::memcpy(whole, p, 2 * n);
  return load_bf16(whole);
}
// Round to nearest even; a NaN stays a NaN.
VIVACE_INLINE uint16x4_t to_bf16(float32x4_t a) {
  const uint32x4_t bits = vreinterpretq_u32_f32(a);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
  const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
  return vshrn_n_u32(vbslq_u32(vceqq_f32(a, a), rounded, quiet), 16);
}
VIVACE_INLINE void store_bf16(std::uint16_t* p, V16 a) {
  for (int i = 0; i < 4; ++i) vst1_u16(p + 4 * i, to_bf16(a.q[i]));
}
VIVACE_INLINE void store_bf16_partial(std::uint16_t* p, V16 a, int n) {
  std::uint16_t whole[16];
  store_bf16(whole, a);
  std::memcpy(p, whole, 2 * n);
}

VIVACE_INLINE V16 load_f16(const std::uint16_t* p) {
  VIVACE_EACH(V16, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))));
}
VIVACE_INLINE V16 load_f16_partial(const std::uint16_t* p, int n) {
  std::uint16_t whole[16] = {};
  std::memcpy(whole, p, 2 * n);
  return load_f16(whole);
}
VIVACE_INLINE std::uint16_t to_f16(float x) {
  return vget_lane_u16(vreinterpret_u16_f16(vcvt_f16_f32(vdupq_n_f32(x))), 0);
}

// Sixteen pairs of bfloat16 as their even and odd members.
VIVACE_INLINE void load_bf16_pairs(const std::uint16_t* p, V16& even, V16& odd) {
  for (int i = 0; i < 4; ++i) {
    const uint32x4_t pairs = vreinterpretq_u32_u16(vld1q_u16(p + 8 * i));
    even.q[i] = vreinterpretq_f32_u32(vshlq_n_u32(pairs, 16));
    odd.q[i] = vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xffff0000u)));
  }
}

VIVACE_INLINE void store_bf16_pairs(std::uint16_t* p, V16 even, V16 odd) {
  for (int i = 0; i < 4; ++i) vst2_u16(p + 8 * i, {{to_bf16(even.q[i]), to_bf16(odd.q[i])}});
}

VIVACE_INLINE I16 broadcast_int(std::int32_t x) { VIVACE_EACH(I16, vdupq_n_s32(x)); }
VIVACE_INLINE I16 load_bytes(const std::uint8_t* p) {
  const uint8x16_t bytes = vld1q_u8(p);
  const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_u8(vget_high_u8(bytes));
  const uint16x4_t quads[] = {vget_low_u16(low), vget_high_u16(low), vget_low_u16(high),
                              vget_high_u16(high)};
  VIVACE_EACH(I16, vreinterpretq_s32_u32(vmovl_u16(quads[i])));
}
VIVACE_INLINE void split_nibbles(I16 bytes, I16& low, I16& high) {
  for (int i = 0; i < 4; ++i) {
    const int32x4_t both = bytes.q[i];
    low.q[i] = vandq_s32(both, vdupq_n_s32(15));
    high.q[i] = vshrq_n_s32(both, 4);
  }
}
VIVACE_INLINE I16 operator*(I16 a, I16 b) { VIVACE_EACH(I16, vmulq_s32(a.q[i], b.q[i])); }
VIVACE_INLINE V16 to_float(I16 a) { VIVACE_EACH(V16, vcvtq_f32_s32(a.q[i])); }
VIVACE_INLINE int8x8_t to_bytes(float32x4_t low, float32x4_t high) {
  return vmovn_s16(
      vcombine_s16(vmovn_s32(vcvtnq_s32_f32(low)), vmovn_s32(vcvtnq_s32_f32(high))));
}
VIVACE_INLINE void store_bytes(void* p, V16 whole) {
  vst1_s8(static_cast<std::int8_t*>(p), to_bytes(whole.q[0], whole.q[1]));
  vst1_s8(static_cast<std::int8_t*>(p) + 8, to_bytes(whole.q[2], whole.q[3]));
}

// The dot product takes signed bytes: columns hold their codes less 128, and a row's step, beside
// its four codes, what that leaves out: 128 times their sum.
constexpr int kCodeRowBytes = 8;
struct Codes {
  int8x16_t q[4];
};
VIVACE_INLINE int8x16_t less_128(uint8x16_t bytes) {
  return vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(0x80)));
}
VIVACE_INLINE void put_codes(char* row, int k, V16 whole) {
  std::int8_t codes[16];
  store_bytes(codes, whole);
  for (int i = 0; i < 4; ++i) {
    const std::int32_t left_out = 128 * vaddvq_s32(vcvtnq_s32_f32(whole.q[i]));
    char* const step = row + kCodeRowBytes * (k / 4 + i);
    std::memcpy(step, codes + 4 * i, 4);
    std::memcpy(step + 4, &left_out, 4);
  }
}
VIVACE_INLINE Codes load_codes(const char* p) {
  VIVACE_EACH(Codes, less_128(vld1q_u8((const std::uint8_t*)p + 16 * i)));
}
VIVACE_INLINE void load_nibbles(const char* p, Codes& low, Codes& high) {
  for (int i = 0; i < 4; ++i) {
    const uint8x16_t bytes = vld1q_u8((const std::uint8_t*)p + 16 * i);
    low.q[i] = less_128(vandq_u8(bytes, vdupq_n_u8(15)));
    high.q[i] = less_128(vshrq_n_u8(bytes, 4));
  }
}
VIVACE_INLINE I16 dot(I16 sum, const char* row, const Codes& codes) {
  std::int32_t step[2];
  std::memcpy(step, row, sizeof step);
  const int8x16_t four = vreinterpretq_s8_s32(vdupq_n_s32(step[0]));
  const int32x4_t left_out = vdupq_n_s32(step[1]);
  VIVACE_EACH(I16, vdotq_s32(vaddq_s32(sum.q[i], left_out), codes.q[i], four));
}

// Nibbles at `shift` of sixteen words.
VIVACE_INLINE I16 load_nibbles_at(const char* p, int shift) {
  const uint32x4_t mask = vdupq_n_u32(15);
  const int32x4_t right = vdupq_n_s32(-shift);
  const auto nibbles = [&](int i) {
    const uint32x4_t words = vreinterpretq_u32_u8(vld1q_u8((const std::uint8_t*)p + 16 * i));
    return vreinterpretq_s32_u32(vandq_u32(vshlq_u32(words, right), mask));
  };
  VIVACE_EACH(I16, nibbles(i));
}

#undef VIVACE_EACH

}  // namespace vivace::VIVACE_ISA

#include "simd_math.hpp"
#include "simd_wide.hpp"
