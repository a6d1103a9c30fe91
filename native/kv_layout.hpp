// Where keys and values stand in a KV page.
//
// A page holds 16 tokens of one layer: per KV head first the keys, then the values, laid out so
// that attention reads both as matmul panels:
//   bfloat16: keys [d/2][16][2], values [16/2][d16][2]
//   float32:  keys [d][16],      values [16][d16]
// with d the head size (padded to even) and d16 the head size padded to 16. Padding is zero: pages
// start zeroed and only real dimensions are ever written.
//
// A packed page holds 32 tokens of one layer in 8 or 4 bits: per KV head the parts of PackedHead,
// padded to whole cache lines, with d32 the head size padded to 32 (formats/kv_format.py).
//
// Functions here are static: each translation unit keeps its own, whatever it is compiled for.
#pragma once

#include <cstddef>

namespace vivace {

enum class DType { float32, bfloat16 };

constexpr int kPageTokens = 16;
constexpr int kPackedTokens = 32;

// packed_bits: of packed pages, 8 or 4; 0 is pages of `dtype`, which the functions on one head's
// keys and values are about.
struct KVLayout {
  DType dtype = DType::float32;
  int num_kv_heads = 0;
  int head_dim = 0;
  int packed_bits = 0;
};

static constexpr int page_tokens(const KVLayout& kv) {
  return kv.packed_bits == 0 ? kPageTokens : kPackedTokens;
}

static constexpr std::size_t element_bytes(DType dtype) {
  return dtype == DType::bfloat16 ? 2 : 4;
}

static constexpr int key_width(const KVLayout& kv) {
  return kv.dtype == DType::bfloat16 ? (kv.head_dim + 1) / 2 * 2 : kv.head_dim;
}

static constexpr int value_width(const KVLayout& kv) { return (kv.head_dim + 15) / 16 * 16; }

static constexpr std::size_t key_bytes(const KVLayout& kv) {
  return element_bytes(kv.dtype) * key_width(kv) * kPageTokens;
}

static constexpr std::size_t value_bytes(const KVLayout& kv) {
  return element_bytes(kv.dtype) * value_width(kv) * kPageTokens;
}

// Byte offsets within a page, and the page's size: all multiples of 64.
static constexpr std::size_t key_offset(const KVLayout& kv, int head) {
  return head * (key_bytes(kv) + value_bytes(kv));
}

static constexpr std::size_t value_offset(const KVLayout& kv, int head) {
  return key_offset(kv, head) + key_bytes(kv);
}

// Runs of 32 codes that one token's values take, and the scales among them.
static constexpr int value_runs(const KVLayout& kv) { return (kv.head_dim + 31) / 32; }

static constexpr int value_groups(const KVLayout& kv) {
  return kv.packed_bits == 8 ? 1 : value_runs(kv);
}

// Byte offsets within one head of a packed page, and its size:
//   key codes [d][32], value codes [32][d32], bfloat16 key scales [d] and value scales
//   [32][groups], and with 4 bits key zero points, a byte each [d].
struct PackedHead {
  std::size_t value_codes;
  std::size_t key_scales;
  std::size_t value_scales;
  std::size_t key_zeros;
  std::size_t bytes;
};

static constexpr PackedHead packed_head(const KVLayout& kv) {
  const std::size_t run = kPackedTokens * kv.packed_bits / 8, d = kv.head_dim;
  const std::size_t value_codes = d * run;
  const std::size_t key_scales = value_codes + kPackedTokens * value_runs(kv) * run;
  const std::size_t value_scales = key_scales + 2 * d;
  const std::size_t key_zeros = value_scales + 2 * kPackedTokens * value_groups(kv);
  const std::size_t end = key_zeros + (kv.packed_bits == 4 ? d : 0);
  return {value_codes, key_scales, value_scales, key_zeros, (end + 63) / 64 * 64};
}

static constexpr std::size_t page_bytes(const KVLayout& kv) {
  if (kv.packed_bits != 0) return kv.num_kv_heads * packed_head(kv).bytes;
  return key_offset(kv, kv.num_kv_heads);
}

// Tokens whose values stand interleaved in one row of a page's values.
static constexpr int value_row_tokens(const KVLayout& kv) {
  return kv.dtype == DType::bfloat16 ? 2 : 1;
}

// Element indices within one head's keys or values, for the token in `slot` (0 to 15).
static constexpr int key_index(const KVLayout& kv, int slot, int dim) {
  if (kv.dtype == DType::float32) return dim * kPageTokens + slot;
  return (dim / 2) * (2 * kPageTokens) + 2 * slot + dim % 2;
}

static constexpr int value_index(const KVLayout& kv, int slot, int dim) {
  if (kv.dtype == DType::float32) return slot * value_width(kv) + dim;
  return (slot / 2) * (2 * value_width(kv)) + 2 * dim + slot % 2;
}

}  // namespace vivace
