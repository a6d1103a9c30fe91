// Where keys and values stand in a KV page.
//
// A page holds 16 tokens of one layer: per KV head first the keys, then the values, laid out so
// that attention reads both as matmul panels:
//   bfloat16: keys [d/2][16][2], values [16/2][d16][2]
//   float32:  keys [d][16],      values [16][d16]
// with d the head size (padded to even) and d16 the head size padded to 16. Padding is zero: pages
// start zeroed and only real dimensions are ever written.
//
// Functions here are static: each translation unit keeps its own, whatever it is compiled for.
#pragma once

#include <cstddef>

namespace vivace {

enum class DType { float32, bfloat16 };

constexpr int kPageTokens = 16;

struct KVLayout {
  DType dtype = DType::float32;
  int num_kv_heads = 0;
  int head_dim = 0;
};

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

static constexpr std::size_t page_bytes(const KVLayout& kv) {
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
