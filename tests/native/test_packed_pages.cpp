// Packed pages: what was packed comes back within half a step, and attention reads of them, to the
// bit, what it reads of plain pages that hold the same values.
#include "support.hpp"

namespace vivace::tests {
namespace {

constexpr int kBlocks = 11;  // the last one is the rows' own
constexpr int kTokens = kBlocks * kPackedTokens;
constexpr int kBegin = kTokens - kPackedTokens;
constexpr int kGroup = 3;  // query heads of a KV head

struct Shape {
  DType dtype;
  int bits;
  int num_kv_heads;
  int head_dim;
  int window;
  int sinks = 0;

  Sight sight() const { return {window, sinks}; }
};

// Keys and values [tokens][heads][head_dim].
struct Values {
  std::vector<float> keys, values;
};

KVLayout near_layout(const Shape& s) { return {s.dtype, s.num_kv_heads, s.head_dim}; }

KVLayout far_layout(const Shape& s) { return {s.dtype, s.num_kv_heads, s.head_dim, s.bits}; }

Buffer plain_pages(const KernelTable& kernels, const KVLayout& kv, const Values& from) {
  Buffer pages(page_bytes(kv) * kTokens / kPageTokens, 0);
  for (int token = 0; token < kTokens; ++token) {
    char* const page = pages.data() + token / kPageTokens * page_bytes(kv);
    for (int head = 0; head < kv.num_kv_heads; ++head) {
      const std::size_t at = (std::size_t(token) * kv.num_kv_heads + head) * kv.head_dim;
      const PageSlot slot{kv, page, head, token % kPageTokens};
      kernels.rows.write_key(from.keys.data() + at, slot);
      kernels.rows.write_value(from.values.data() + at, slot);
    }
  }
  return pages;
}

Buffer packed_pages(const KernelTable& kernels, const Shape& shape, const Buffer& plain) {
  const KVLayout near = near_layout(shape), far = far_layout(shape);
  Buffer pages(page_bytes(far) * kBlocks, 0);
  for (int block = 0; block < kBlocks; ++block) {
    const char* const first = plain.data() + 2 * block * page_bytes(near);
    for (int head = 0; head < shape.num_kv_heads; ++head) {
      kernels.pack_block({near, far, {first, first + page_bytes(near)},
                          pages.data() + block * page_bytes(far), head});
    }
  }
  return pages;
}

// --- one code at a time, as formats/kv_format.py says ---

float half_at(const char* p) {
  std::uint16_t half;
  std::memcpy(&half, p, 2);
  return widen(half);
}

int code_at(const char* codes, int bits, int index) {
  if (bits == 8) return static_cast<std::uint8_t>(codes[index]);
  const int both = static_cast<std::uint8_t>(codes[index / 32 * 16 + index % 16]);
  return index % 32 < 16 ? both & 15 : both >> 4;
}

struct Decoded {
  float value;
  float step;
};

Decoded key_at(const KVLayout& far, const char* head, int token, int dim) {
  const PackedHead at = packed_head(far);
  const float scale = half_at(head + at.key_scales + 2 * dim);
  const int zero = far.packed_bits == 8 ? -128 : static_cast<std::int8_t>(head[at.key_zeros + dim]);
  return {float(code_at(head, far.packed_bits, 32 * dim + token) + zero) * scale, scale};
}

Decoded value_at(const KVLayout& far, const char* head, int token, int dim) {
  const PackedHead at = packed_head(far);
  const int groups = value_groups(far), group = groups == 1 ? 0 : dim / 32;
  const float scale = half_at(head + at.value_scales + 2 * (token * groups + group));
  const int index = 32 * value_runs(far) * token + dim;
  const int code = code_at(head + at.value_codes, far.packed_bits, index);
  return {float(code - (far.packed_bits == 8 ? 128 : 8)) * scale, scale};
}

Values unpacked(const Shape& shape, const Values& original, const Buffer& packed, Checks& checks) {
  const KVLayout far = far_layout(shape);
  Values all = original;
  double worst = 0;
  for (std::size_t i = 0; i < all.keys.size(); ++i) {
    const int dim = i % shape.head_dim, head = i / shape.head_dim % shape.num_kv_heads;
    const int token = i / shape.head_dim / shape.num_kv_heads;
    const char* const at = packed.data() + token / kPackedTokens * page_bytes(far) +
                           head * packed_head(far).bytes;
    const Decoded key = key_at(far, at, token % kPackedTokens, dim);
    const Decoded value = value_at(far, at, token % kPackedTokens, dim);
    const float key_error = stored(shape.dtype, all.keys[i]) - key.value;
    const float value_error = stored(shape.dtype, all.values[i]) - value.value;
    worst = std::max({worst, std::fabs(double(key_error / key.step)),
                      std::fabs(double(value_error / value.step))});
    if (token < kBegin) {
      all.keys[i] = key.value;
      all.values[i] = value.value;
    }
  }
  checks.that(worst < 0.5 + 15.0 / 256, "%s packed in %d bits dim=%d: %g steps wrong",
              name(shape.dtype), shape.bits, shape.head_dim, worst);
  return all;
}

// --- attention of the last block's rows ---

AttentionLayer layer_of(const Shape& shape, const Buffer& pages) {
  const KVLayout kv = near_layout(shape);
  return {.kv = kv,
          .num_heads = kGroup * shape.num_kv_heads,
          .scale = 0.3f,
          .pages = pages.data(),
          .page_stride = std::int64_t(page_bytes(kv))};
}

// queries: those that meet what is recent, and behind them those that meet the sinks.
std::vector<float> attend(const KernelTable& kernels, const AttentionLayer& layer,
                          const Sight& sight, const std::vector<float>& queries,
                          const std::vector<std::int32_t>& table,
                          const std::vector<std::int32_t>& far_table) {
  const int width = layer.num_heads * layer.kv.head_dim;
  const int first_part = first_visible(sight, kBegin) / kPartTokens;
  const int sink_parts = sight.sinks > 0 ? 1 : 0;
  std::vector<float> out(queries.size() / 2);
  const Buffer scratch(kernels.attention_scratch_bytes(layer, kPackedTokens));
  kernels.attention(layer,
                    {.queries = queries.data(),
                     .sink_queries = queries.data() + out.size(),
                     .query_stride = width,
                     .out = out.data(),
                     .out_stride = width,
                     .block_table = table.data(),
                     .far_table = far_table.data(),
                     .num_kv_heads = layer.kv.num_kv_heads,
                     .first_position = kBegin,
                     .num_rows = kPackedTokens,
                     .sight = sight,
                     .first_part = first_part,
                     .num_parts = (kTokens - 1) / kPartTokens + 1 - first_part + sink_parts,
                     .sink_parts = sink_parts},
                    scratch.data());
  return out;
}

// The packed pages that the last block's rows see; others are given back.
std::vector<std::int32_t> far_table_of(const Sight& sight) {
  std::vector<std::int32_t> table(kBlocks, 1 << 30);
  for (int token = 0; token < kBegin; ++token) {
    const int block = token / kPackedTokens;
    if (token < sight.sinks || token >= first_visible(sight, kBegin)) table[block] = block;
  }
  return table;
}

void check(const KernelTable& kernels, const Shape& shape, std::mt19937& random, Checks& checks) {
  const std::size_t count = std::size_t(kTokens) * shape.num_kv_heads * shape.head_dim;
  const Values original{random_values(random, count), random_values(random, count)};
  const Buffer near = plain_pages(kernels, near_layout(shape), original);
  const Buffer packed = packed_pages(kernels, shape, near);
  const Values same = unpacked(shape, original, packed, checks);
  const Buffer plain = plain_pages(kernels, near_layout(shape), same);
  std::vector<std::int32_t> table, own;
  for (int page = 0; page < kTokens / kPageTokens; ++page) {
    table.push_back(page);
    own.push_back(page < 2 * (kBlocks - 1) ? 1 << 30 : page);  // given back
  }
  const int heads = kGroup * shape.num_kv_heads;
  const auto queries =
      random_values(random, 2 * std::size_t(kPackedTokens) * heads * shape.head_dim);
  AttentionLayer layer = layer_of(shape, near);
  layer.far = {far_layout(shape), packed.data(), std::int64_t(page_bytes(far_layout(shape)))};
  const Sight sight = shape.sight();
  const auto actual = attend(kernels, layer, sight, queries, own, far_table_of(sight));
  const auto expected = attend(kernels, layer_of(shape, plain), sight, queries, table, {});
  checks.that(std::memcmp(actual.data(), expected.data(), 4 * actual.size()) == 0,
              "%s attention over %d bits heads=%d dim=%d window=%d sinks=%d differs",
              name(shape.dtype), shape.bits, shape.num_kv_heads, shape.head_dim, shape.window,
              shape.sinks);
}

}  // namespace

void test_packed_pages(const KernelTable& kernels, Checks& checks) {
  std::mt19937 random(17);
  for (const DType dtype : {DType::float32, DType::bfloat16}) {
    for (const int bits : {8, 4}) {
      for (const int head_dim : {2, 20, 33, 64, 96, 128}) {
        check(kernels, {dtype, bits, 2, head_dim, 0}, random, checks);
        check(kernels, {dtype, bits, 1, head_dim, 75}, random, checks);
        check(kernels, {dtype, bits, 2, head_dim, 75, 4}, random, checks);
        check(kernels, {dtype, bits, 1, head_dim, 20, 150}, random, checks);
      }
    }
  }
}

}  // namespace vivace::tests
