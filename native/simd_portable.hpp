// Sixteen floats in four vectors of the compiler's own: the portable level. See simd.hpp.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace vivace::VIVACE_ISA {

typedef float Quad __attribute__((vector_size(16)));
typedef std::int32_t QuadInt __attribute__((vector_size(16)));
typedef std::uint32_t QuadBits __attribute__((vector_size(16)));

struct V16 {
  Quad q[4];
};
struct Mask {
  QuadInt q[4];
};
struct I16 {
  QuadInt q[4];
};

#define VIVACE_INLINE static inline __attribute__((always_inline))

VIVACE_INLINE V16 broadcast(float x) {
  const Quad q = {x, x, x, x};
  return {{q, q, q, q}};
}
VIVACE_INLINE V16 zero() { return broadcast(0.0f); }
VIVACE_INLINE Mask first_lanes(int n) {
  const QuadInt lanes = {0, 1, 2, 3};
  return {{lanes < n, lanes + 4 < n, lanes + 8 < n, lanes + 12 < n}};
}

VIVACE_INLINE unsigned lane_bits(Mask m) {
  unsigned bits = 0;
  for (int i = 0; i < 16; ++i) bits |= unsigned(m.q[i / 4][i % 4] & 1) << i;
  return bits;
}

VIVACE_INLINE V16 load(const float* p) {
  V16 a;
  std::memcpy(&a, p, sizeof a);
  return a;
}
VIVACE_INLINE V16 load_partial(const float* p, int n) {
  V16 a = zero();
  std::memcpy(&a, p, sizeof(float) * n);
  return a;
}
VIVACE_INLINE void store(float* p, V16 a) { std::memcpy(p, &a, sizeof a); }
VIVACE_INLINE void store_partial(float* p, V16 a, int n) { std::memcpy(p, &a, sizeof(float) * n); }

#define VIVACE_QUADS(expression) \
  V16 r;                         \
  for (int i = 0; i < 4; ++i) r.q[i] = (expression); \
  return r

VIVACE_INLINE V16 operator+(V16 a, V16 b) { VIVACE_QUADS(a.q[i] + b.q[i]); }
VIVACE_INLINE V16 operator-(V16 a, V16 b) { VIVACE_QUADS(a.q[i] - b.q[i]); }
VIVACE_INLINE V16 operator*(V16 a, V16 b) { VIVACE_QUADS(a.q[i] * b.q[i]); }
VIVACE_INLINE V16 operator/(V16 a, V16 b) { VIVACE_QUADS(a.q[i] / b.q[i]); }
// Two roundings: there may be no fused instruction here.
VIVACE_INLINE V16 fma(V16 a, V16 b, V16 c) { VIVACE_QUADS(a.q[i] * b.q[i] + c.q[i]); }
VIVACE_INLINE V16 min(V16 a, V16 b) { VIVACE_QUADS(a.q[i] < b.q[i] ? a.q[i] : b.q[i]); }
VIVACE_INLINE V16 max(V16 a, V16 b) { VIVACE_QUADS(a.q[i] > b.q[i] ? a.q[i] : b.q[i]); }
VIVACE_INLINE V16 sqrt(V16 a) {
  for (Quad& quad : a.q) {
    for (int i = 0; i < 4; ++i) quad[i] = __builtin_sqrtf(quad[i]);
  }
  return a;
}
VIVACE_INLINE V16 abs(V16 a) { VIVACE_QUADS((Quad)((QuadInt)a.q[i] & 0x7fffffff)); }
// Nearest even by adding and taking away 1.5 * 2^23; exact for |a| < 2^22.
VIVACE_INLINE V16 round(V16 a) { VIVACE_QUADS((a.q[i] + 12582912.0f) - 12582912.0f); }

VIVACE_INLINE Mask less(V16 a, V16 b) {
  return {{a.q[0] < b.q[0], a.q[1] < b.q[1], a.q[2] < b.q[2], a.q[3] < b.q[3]}};
}
VIVACE_INLINE V16 select(Mask m, V16 a, V16 b) { VIVACE_QUADS(m.q[i] ? a.q[i] : b.q[i]); }

// a * 2^n for whole n in [-252, 254], in two steps so that the result may leave the normal range.
VIVACE_INLINE Quad scale_exponent4(Quad a, Quad n) {
  const QuadInt whole = __builtin_convertvector(n, QuadInt);
  const QuadInt half = whole >> 1;
  return a * (Quad)((half + 127) << 23) * (Quad)((whole - half + 127) << 23);
}
VIVACE_INLINE V16 scale_exponent(V16 a, V16 n) { VIVACE_QUADS(scale_exponent4(a.q[i], n.q[i])); }

// Sums and maxima as trees over halves: lanes i and i + 8, then + 4, + 2, + 1, at every level.
VIVACE_INLINE float first_lane(V16 a) { return a.q[0][0]; }
VIVACE_INLINE float reduce_add(V16 a) {
  const Quad x = (a.q[0] + a.q[2]) + (a.q[1] + a.q[3]);
  return (x[0] + x[2]) + (x[1] + x[3]);
}
VIVACE_INLINE float greater(float a, float b) { return a > b ? a : b; }
VIVACE_INLINE float reduce_max(V16 a) {
  const V16 pairs = max(a, {{a.q[2], a.q[3], a.q[2], a.q[3]}});
  const Quad x = pairs.q[0] > pairs.q[1] ? pairs.q[0] : pairs.q[1];
  return greater(greater(x[0], x[2]), greater(x[1], x[3]));
}

VIVACE_INLINE V16 load_bf16(const std::uint16_t* p) {
  QuadBits bits[4];
  for (int i = 0; i < 16; ++i) bits[i / 4][i % 4] = std::uint32_t(p[i]) << 16;
  VIVACE_QUADS((Quad)bits[i]);
}
VIVACE_INLINE V16 load_bf16_partial(const std::uint16_t* p, int n) {
  std::uint16_t whole[16] = {};
  std::memcpy(whole, p, 2 * n);
  return load_bf16(whole);
}
// Round to nearest even; a NaN stays a NaN.
VIVACE_INLINE QuadBits round_bf16_bits(Quad a) {
  const QuadBits bits = (QuadBits)a;
  const QuadBits rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  return (a == a ? rounded : bits | 0x400000u) >> 16;
}
VIVACE_INLINE void store_bf16(std::uint16_t* p, V16 a) {
  for (int i = 0; i < 4; ++i) {
    const QuadBits bits = round_bf16_bits(a.q[i]);
    for (int j = 0; j < 4; ++j) p[4 * i + j] = static_cast<std::uint16_t>(bits[j]);
  }
}
VIVACE_INLINE void store_bf16_partial(std::uint16_t* p, V16 a, int n) {
  std::uint16_t whole[16];
  store_bf16(whole, a);
  std::memcpy(p, whole, 2 * n);
}

// Exponent and fraction move to their float32 places; the factor 2^112 mends the bias, subnormals
// included. What was infinite or NaN gets the largest exponent.
VIVACE_INLINE float widen_f16(std::uint16_t half) {
  const std::uint32_t magnitude = std::uint32_t(half & 0x7fffu) << 13;
  float value;
  std::memcpy(&value, &magnitude, 4);
  value *= 0x1p112f;
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((half & 0x7c00u) == 0x7c00u) bits |= 0x7f800000u;
  bits |= std::uint32_t(half & 0x8000u) << 16;
  std::memcpy(&value, &bits, 4);
  return value;
}
VIVACE_INLINE V16 load_f16_partial(const std::uint16_t* p, int n) {
  V16 a = zero();
  for (int i = 0; i < n; ++i) a.q[i / 4][i % 4] = widen_f16(p[i]);
  return a;
}
VIVACE_INLINE V16 load_f16(const std::uint16_t* p) { return load_f16_partial(p, 16); }

// Sixteen pairs of bfloat16 as their even and odd members (in memory order: little-endian only).
VIVACE_INLINE void load_bf16_pairs(const std::uint16_t* p, V16& even, V16& odd) {
  QuadBits pairs[4];
  std::memcpy(pairs, p, sizeof pairs);
  for (int i = 0; i < 4; ++i) {
    even.q[i] = (Quad)(pairs[i] << 16);
    odd.q[i] = (Quad)(pairs[i] & 0xffff0000u);
  }
}

VIVACE_INLINE void store_bf16_pairs(std::uint16_t* p, V16 even, V16 odd) {
  for (int i = 0; i < 4; ++i) {
    const QuadBits pairs = round_bf16_bits(even.q[i]) | round_bf16_bits(odd.q[i]) << 16;
    std::memcpy(p + 8 * i, &pairs, sizeof pairs);
  }
}

// Round to nearest even; beyond the largest is infinite. A NaN stays a NaN.
VIVACE_INLINE std::uint16_t to_f16(float x) {
  const float magnitude = __builtin_fabsf(x);
  std::uint32_t bits, sign, half;
  std::memcpy(&bits, &magnitude, 4);
  std::memcpy(&sign, &x, 4);
  if (!(magnitude < 65520.0f)) {
    half = magnitude == magnitude ? 0x7c00u : 0x7e00u;
  } else if (magnitude < 0x1p-14f) {
    // Adding 1/2 leaves the subnormal's units, of 2^-24, in the last bits.
    const float shifted = magnitude + 0.5f;
    std::memcpy(&half, &shifted, 4);
    half -= 0x3f000000u;
  } else {
    half = (bits + 0xfffu + (bits >> 13 & 1u) - (112u << 23)) >> 13;
  }
  return static_cast<std::uint16_t>(half | (sign >> 16 & 0x8000u));
}

#define VIVACE_QUAD_INTS(expression) \
  I16 r;                             \
  for (int i = 0; i < 4; ++i) r.q[i] = (expression); \
  return r

VIVACE_INLINE I16 broadcast_int(std::int32_t x) {
  const QuadInt q = {x, x, x, x};
  return {{q, q, q, q}};
}
VIVACE_INLINE I16 load_bytes(const std::uint8_t* p) {
  VIVACE_QUAD_INTS((QuadInt{p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3]}));
}
VIVACE_INLINE void split_nibbles(I16 bytes, I16& low, I16& high) {
  for (int i = 0; i < 4; ++i) {
    const QuadInt both = bytes.q[i];
    low.q[i] = both & 15;
    high.q[i] = both >> 4;
  }
}
VIVACE_INLINE I16 operator*(I16 a, I16 b) { VIVACE_QUAD_INTS(a.q[i] * b.q[i]); }
VIVACE_INLINE V16 to_float(I16 a) { VIVACE_QUADS(__builtin_convertvector(a.q[i], Quad)); }
VIVACE_INLINE void store_bytes(void* p, V16 whole) {
  for (int i = 0; i < 16; ++i) {
    static_cast<std::uint8_t*>(p)[i] = static_cast<std::uint8_t>(int(whole.q[i / 4][i % 4]));
  }
}

constexpr int kCodeRowBytes = 4;
struct Codes {
  QuadBits words[4];
};
VIVACE_INLINE void put_codes(char* row, int k, V16 whole) { store_bytes(row + k, whole); }
VIVACE_INLINE Codes load_codes(const char* p) {
  Codes codes;
  std::memcpy(&codes, p, sizeof codes);
  return codes;
}
VIVACE_INLINE void load_nibbles(const char* p, Codes& low, Codes& high) {
  const Codes both = load_codes(p);
  for (int i = 0; i < 4; ++i) {
    low.words[i] = both.words[i] & 0x0f0f0f0fu;
    high.words[i] = both.words[i] >> 4 & 0x0f0f0f0fu;
  }
}
VIVACE_INLINE I16 dot(I16 sum, const char* row, const Codes& codes) {
  for (int j = 0; j < 4; ++j) {
    const int code = static_cast<std::int8_t>(row[j]);
    for (int i = 0; i < 4; ++i) sum.q[i] += (QuadInt)(codes.words[i] >> 8 * j & 0xffu) * code;
  }
  return sum;
}

// Nibbles at `shift` of sixteen words.
VIVACE_INLINE I16 load_nibbles_at(const char* p, int shift) {
  const Codes words = load_codes(p);
  VIVACE_QUAD_INTS((QuadInt)(words.words[i] >> shift & 15u));
}

#undef VIVACE_QUAD_INTS

#undef VIVACE_QUADS

}  // namespace vivace::VIVACE_ISA

#include "simd_math.hpp"
#include "simd_wide.hpp"
