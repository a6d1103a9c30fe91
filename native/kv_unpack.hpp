// Packed keys and values as pages of the numbers that attention multiplies: what comes after is the
// same at every level, whatever pages were kept in.
#pragma once

#include <cstring>

#include "kernels.hpp"
#include "simd.hpp"

namespace vivace::VIVACE_ISA {

VIVACE_INLINE float float_of_bf16(const char* p) {
  std::uint16_t half;
  std::memcpy(&half, p, 2);
  const std::uint32_t bits = std::uint32_t(half) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// A run of 32 values.
struct Run {
  V16 first, second;
};

// A run's codes, plus an offset and times a scale.
template <int Bits>
VIVACE_INLINE Run load_run(const char* codes, int run, float offset, float scale) {
  const std::uint8_t* const bytes = (const std::uint8_t*)codes + 4 * Bits * run;
  I16 first = load_bytes(bytes), second;
  if constexpr (Bits == 8) {
    second = load_bytes(bytes + 16);
  } else {
    split_nibbles(first, first, second);
  }
  return {(to_float(first) + broadcast(offset)) * broadcast(scale),
          (to_float(second) + broadcast(offset)) * broadcast(scale)};
}

// The code of zero in symmetric groups.
constexpr float middle_code(int bits) { return bits == 8 ? 128.0f : 8.0f; }

// An unpacked page is a page of one head (kv_layout.hpp), whose float32 keys are padded to an even
// head size too: rows, a channel's keys or a token's values, are written in pairs.
VIVACE_INLINE std::size_t unpacked_key_bytes(const KVLayout& kv) {
  return element_bytes(kv.dtype) * ((kv.head_dim + 1) / 2 * 2) * kPageTokens;
}

VIVACE_INLINE std::size_t unpacked_page_bytes(const KVLayout& kv) {
  return unpacked_key_bytes(kv) + value_bytes(kv);
}

// Sixteen columns of rows `row`, which is even, and row + 1.
template <DType Dtype>
VIVACE_INLINE void put_two_rows(char* page, int row, int width, int column, V16 a, V16 b) {
  if constexpr (Dtype == DType::bfloat16) {
    store_bf16_pairs((std::uint16_t*)page + row * width + 2 * column, a, b);
  } else {
    float* const to = (float*)page + row * width + column;
    store(to, a);
    store(to + width, b);
  }
}

template <int Bits, DType Dtype>
VIVACE_INLINE void unpack_keys(const KVLayout& far, const char* head, char* pages) {
  const PackedHead at = packed_head(far);
  const auto channel = [&](int c) {
    if (c >= far.head_dim) return Run{zero(), zero()};
    const auto* const zero_points = (const std::int8_t*)head + at.key_zeros;
    const float offset = Bits == 8 ? -middle_code(8) : zero_points[c];
    return load_run<Bits>(head, c, offset, float_of_bf16(head + at.key_scales + 2 * c));
  };
  char* const second_page = pages + unpacked_page_bytes(far);
  for (int c = 0; c < far.head_dim; c += 2) {
    const Run a = channel(c), b = channel(c + 1);
    put_two_rows<Dtype>(pages, c, kPageTokens, 0, a.first, b.first);
    put_two_rows<Dtype>(second_page, c, kPageTokens, 0, a.second, b.second);
  }
}

template <int Bits, DType Dtype>
VIVACE_INLINE void unpack_values(const KVLayout& far, const char* head, char* pages) {
  const PackedHead at = packed_head(far);
  const int runs = value_runs(far), groups = value_groups(far), width = value_width(far);
  const auto values = [&](int token, int run) {
    const int scale = token * groups + (groups == 1 ? 0 : run);
    return load_run<Bits>(head + at.value_codes, token * runs + run, -middle_code(Bits),
                          float_of_bf16(head + at.value_scales + 2 * scale));
  };
  for (int token = 0; token < kPackedTokens; token += 2) {
    char* const page = pages + token / kPageTokens * unpacked_page_bytes(far);
    char* const rows = page + unpacked_key_bytes(far);
    const int row = token % kPageTokens;
    for (int run = 0; run < runs; ++run) {
      const Run a = values(token, run), b = values(token + 1, run);
      put_two_rows<Dtype>(rows, row, width, 32 * run, a.first, b.first);
      if (32 * run + 16 >= width) continue;
      put_two_rows<Dtype>(rows, row, width, 32 * run + 16, a.second, b.second);
    }
  }
}

template <int Bits, DType Dtype>
__attribute__((noinline)) static void unpack_head_as(const KVLayout& far, const char* head,
                                                     char* pages) {
  unpack_keys<Bits, Dtype>(far, head, pages);
  unpack_values<Bits, Dtype>(far, head, pages);
}

// One head of a packed page as two unpacked pages of far.dtype, one after the other.
static void unpack_head(const KVLayout& far, const char* head, char* pages) {
  const bool wide = far.dtype == DType::float32;
  if (far.packed_bits == 8) {
    return wide ? unpack_head_as<8, DType::float32>(far, head, pages)
                : unpack_head_as<8, DType::bfloat16>(far, head, pages);
  }
  wide ? unpack_head_as<4, DType::float32>(far, head, pages)
       : unpack_head_as<4, DType::bfloat16>(far, head, pages);
}

}  // namespace vivace::VIVACE_ISA
