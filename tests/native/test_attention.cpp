// Attention: values with every option, and that a row's result does not depend on its item.
#include "support.hpp"

namespace vivace::tests {
namespace {

constexpr float kUnset = 12345.0f;

struct Shape {
  DType dtype;
  int num_heads;
  int num_kv_heads;
  int head_dim;
  int window = 0;
  float softcap = 0.0f;
  bool sink_logits = false;
  int sinks = 0;

  Sight sight() const { return {window, sinks}; }
};

// One sequence of `length` tokens in shuffled pages; what was never written is NaN.
struct Sequence {
  Shape shape;
  int length;
  // [length][heads][head_dim], [heads]
  std::vector<float> queries, sink_queries, keys, values, sink_logits;
  std::vector<std::int32_t> block_table;
  Buffer pages;
  AttentionLayer layer;

  float at(const std::vector<float>& x, int heads, int token, int head, int dim) const {
    return x[(std::size_t(token) * heads + head) * shape.head_dim + dim];
  }
};

void write(char* base, DType dtype, int index, float value) {
  if (dtype == DType::float32) {
    std::memcpy(base + 4 * index, &value, 4);
  } else {
    const std::uint16_t half = narrow(value);
    std::memcpy(base + 2 * index, &half, 2);
  }
}

void fill_pages(Sequence& s, const KVLayout& kv) {
  // Padding is zero; slots behind the last token stay NaN.
  for (int token = 0; token < s.length; ++token) {
    const int slot = token % kPageTokens;
    char* page = s.pages.data() + s.block_table[token / kPageTokens] * page_bytes(kv);
    for (int head = 0; head < kv.num_kv_heads; ++head) {
      char* keys = page + key_offset(kv, head);
      char* values = page + value_offset(kv, head);
      for (int d = 0; d < key_width(kv); ++d) write(keys, kv.dtype, key_index(kv, slot, d), 0);
      for (int d = 0; d < value_width(kv); ++d) {
        write(values, kv.dtype, value_index(kv, slot, d), 0);
      }
      for (int d = 0; d < kv.head_dim; ++d) {
        const float key = s.at(s.keys, kv.num_kv_heads, token, head, d);
        const float value = s.at(s.values, kv.num_kv_heads, token, head, d);
        write(keys, kv.dtype, key_index(kv, slot, d), key);
        write(values, kv.dtype, value_index(kv, slot, d), value);
      }
    }
  }
}

Sequence make_sequence(const Shape& shape, int length, std::mt19937& random) {
  const KVLayout kv{shape.dtype, shape.num_kv_heads, shape.head_dim};
  const int blocks = (length + kPageTokens - 1) / kPageTokens;
  const std::size_t width = std::size_t(length) * shape.head_dim;
  Sequence s{shape,
             length,
             random_values(random, width * shape.num_heads, 2.0f),
             random_values(random, width * shape.num_heads, 2.0f),
             random_values(random, width * shape.num_kv_heads),
             random_values(random, width * shape.num_kv_heads),
             random_values(random, shape.num_heads),
             {},
             Buffer(page_bytes(kv) * (blocks + 1)),
             {}};
  for (int b = 0; b < blocks; ++b) s.block_table.push_back(b);
  std::shuffle(s.block_table.begin(), s.block_table.end(), random);
  fill_pages(s, kv);
  // Rows that do not evict have no queries for the sinks.
  int whole = 0;
  while (whole < length && !evicts(shape.sight(), whole)) ++whole;
  std::fill_n(s.sink_queries.begin(), std::size_t(whole) * shape.num_heads * shape.head_dim, NAN);
  s.layer = {kv,
             shape.num_heads,
             1.0f / std::sqrt(float(shape.head_dim)),
             shape.softcap,
             shape.sink_logits ? s.sink_logits.data() : nullptr,
             s.pages.data(),
             std::int64_t(page_bytes(kv))};
  return s;
}

// All rows [begin, end) under all KV heads; `out` has a column more than the heads.
AttentionItem item_of(const Sequence& s, int begin, int end, std::vector<float>& out,
                      const std::vector<std::int32_t>& table) {
  const int width = s.shape.num_heads * s.shape.head_dim;
  const Sight sight = s.shape.sight();
  const int first_part = first_visible(sight, begin) / kPartTokens;
  const int sink_parts = sight.sinks > 0 && evicts(sight, end - 1) ? 1 : 0;
  return {.queries = s.queries.data() + std::size_t(begin) * width,
          .sink_queries = s.sink_queries.data() + std::size_t(begin) * width,
          .query_stride = width,
          .out = out.data(),
          .out_stride = width + 1,
          .block_table = table.data(),
          .first_kv_head = 0,
          .num_kv_heads = s.shape.num_kv_heads,
          .first_position = begin,
          .num_rows = end - begin,
          .sight = sight,
          .first_part = first_part,
          .num_parts = (end - 1) / kPartTokens + 1 - first_part + sink_parts,
          .sink_parts = sink_parts};
}

void attend_by_heads(const KernelTable& kernels, const Sequence& s, AttentionItem item) {
  const Buffer scratch(kernels.attention_scratch_bytes(s.layer, item.num_rows));
  item.num_kv_heads = 1;
  for (int head = 0; head < s.shape.num_kv_heads; ++head) {
    item.first_kv_head = head;
    kernels.attention(s.layer, item, scratch.data());
  }
}

void attend_by_parts(const KernelTable& kernels, const Sequence& s, AttentionItem item) {
  const Buffer scratch(kernels.attention_scratch_bytes(s.layer, item.num_rows));
  const std::size_t floats = attention_state_floats(s.layer, item.num_rows);
  std::vector<float> states(floats * item.num_parts, kUnset);
  for (int part = 0; part < item.num_parts; ++part) {
    AttentionItem one = item;
    one.sink_parts = part < item.sink_parts ? 1 : 0;
    one.first_part = item.first_part + std::max(part - item.sink_parts, 0);
    one.num_parts = 1;
    one.states = states.data() + part * floats;
    kernels.attention(s.layer, one, scratch.data());
  }
  item.states = states.data();
  kernels.fold_attention(s.layer, item, scratch.data());
}

// Rows [begin, end): [rows][heads * head_dim].
std::vector<float> run(const KernelTable& kernels, const Sequence& s, int begin, int end,
                       decltype(attend_by_heads)& attend = attend_by_heads) {
  const int width = s.shape.num_heads * s.shape.head_dim;
  std::vector<float> out(std::size_t(end - begin) * (width + 1), kUnset);
  // A window's passed blocks are given back: their table entries must not be read.
  std::vector<std::int32_t> table = s.block_table;
  const int first = first_visible(s.shape.sight(), begin);
  const int kept = (s.shape.sinks + kPageTokens - 1) / kPageTokens;
  for (int b = kept; b < first / kPageTokens; ++b) table[b] = 1 << 30;
  attend(kernels, s, item_of(s, begin, end, out, table));
  std::vector<float> tight;
  for (int r = 0; r < end - begin; ++r) {
    const float* row = out.data() + std::size_t(r) * (width + 1);
    tight.insert(tight.end(), row, row + width);
    if (row[width] != kUnset) tight.assign(1, NAN);  // wrote past its heads
  }
  return tight;
}

double score(const Sequence& s, int row, int head, int token) {
  const Shape& shape = s.shape;
  const bool sink = evicts(shape.sight(), row) && token < shape.sinks;
  const std::vector<float>& queries = sink ? s.sink_queries : s.queries;
  const int kv_head = head / (shape.num_heads / shape.num_kv_heads);
  double sum = 0;
  for (int d = 0; d < shape.head_dim; ++d) {
    sum += double(stored(shape.dtype, s.at(queries, shape.num_heads, row, head, d))) *
           stored(shape.dtype, s.at(s.keys, shape.num_kv_heads, token, kv_head, d));
  }
  sum *= s.layer.scale;
  return shape.softcap == 0 ? sum : shape.softcap * std::tanh(sum / shape.softcap);
}

// Largest error of one row under one head.
double row_error(const Sequence& s, int row, int head, const float* out) {
  const Shape& shape = s.shape;
  const int kv_head = head / (shape.num_heads / shape.num_kv_heads);
  const bool evicted = shape.window != 0 && row >= shape.sinks + shape.window;
  double total = shape.sink_logits ? std::exp(double(s.sink_logits[head])) : 0;
  std::vector<double> sums(shape.head_dim, 0.0);
  for (int token = 0; token <= row; ++token) {
    if (evicted && token >= shape.sinks && token <= row - shape.window) continue;
    const double weight = std::exp(score(s, row, head, token));
    total += weight;
    for (int d = 0; d < shape.head_dim; ++d) {
      const float value = s.at(s.values, shape.num_kv_heads, token, kv_head, d);
      sums[d] += weight * stored(shape.dtype, value);
    }
  }
  double worst = 0;
  for (int d = 0; d < shape.head_dim; ++d) {
    const double error = std::fabs(out[d] - sums[d] / total);
    worst = error <= worst ? worst : error;  // a NaN is kept
  }
  return worst;
}

void check_values(const KernelTable& kernels, const Sequence& s, Checks& checks) {
  const std::vector<float> out = run(kernels, s, 0, s.length);
  const double bound = s.shape.dtype == DType::bfloat16 ? 1.5e-2 : 2e-5;
  double worst = 0;
  for (int row = 0; row < s.length; row = row < 40 ? row + 1 : row + 17) {
    for (int head = 0; head < s.shape.num_heads; ++head) {
      const std::size_t at = std::size_t(row) * s.shape.num_heads + head;
      const double error = row_error(s, row, head, out.data() + at * s.shape.head_dim);
      worst = error <= worst ? worst : error;
    }
  }
  checks.that(worst < bound, "%s attention heads=%d/%d dim=%d length=%d window=%d: error %g",
              name(s.shape.dtype), s.shape.num_heads, s.shape.num_kv_heads, s.shape.head_dim,
              s.length, s.shape.window, worst);
}

// Chunks of every size give the rows that one item gives.
void check_invariance(const KernelTable& kernels, const Sequence& s, Checks& checks) {
  const std::size_t width = std::size_t(s.shape.num_heads) * s.shape.head_dim;
  const std::vector<float> whole = run(kernels, s, 0, s.length);
  for (const int chunk : {1, 2, 7, 16, 30, 64}) {
    for (int begin = 0; begin < s.length; begin += chunk) {
      const int end = std::min(s.length, begin + chunk);
      const std::vector<float> part = run(kernels, s, begin, end);
      const bool same =
          std::memcmp(part.data(), whole.data() + begin * width, part.size() * 4) == 0;
      checks.that(same, "%s attention heads=%d/%d dim=%d window=%d: chunk of %d at %d differs",
                  name(s.shape.dtype), s.shape.num_heads, s.shape.num_kv_heads, s.shape.head_dim,
                  s.shape.window, chunk, begin);
    }
  }
}

// Parts that are shared out and folded give the rows that one item gives.
void check_parts(const KernelTable& kernels, const Sequence& s, Checks& checks) {
  for (const int begin : {0, 500, 513, s.length - 3}) {
    const int end = std::min(s.length, begin + 20);
    const std::vector<float> whole = run(kernels, s, begin, end);
    const std::vector<float> folded = run(kernels, s, begin, end, attend_by_parts);
    const bool same = std::memcmp(whole.data(), folded.data(), whole.size() * 4) == 0;
    checks.that(same, "%s attention heads=%d/%d dim=%d window=%d: parts of rows at %d differ",
                name(s.shape.dtype), s.shape.num_heads, s.shape.num_kv_heads, s.shape.head_dim,
                s.shape.window, begin);
  }
}

// Large scores must not overflow, and must find the one key that matters.
void check_extremes(const KernelTable& kernels, DType dtype, std::mt19937& random, Checks& checks) {
  Sequence s = make_sequence({dtype, 2, 1, 64}, 300, random);
  for (float& q : s.queries) q *= 1000.0f;
  for (const float x : run(kernels, s, 0, s.length)) {
    checks.that(std::isfinite(x), "%s attention: large scores give %g", name(dtype), x);
  }
}

}  // namespace

void test_attention(const KernelTable& kernels, Checks& checks) {
  std::mt19937 random(11);
  for (const DType dtype : {DType::float32, DType::bfloat16}) {
    const Shape shapes[] = {
        {dtype, 4, 4, 64},           {dtype, 8, 1, 32},          {dtype, 9, 3, 64},
        {dtype, 2, 2, 8},            {dtype, 6, 2, 20},          {dtype, 3, 1, 33},
        {dtype, 4, 2, 80, 0, 50.0f}, {dtype, 4, 2, 96, 37},      {dtype, 4, 2, 128, 128, 30.0f},
        {dtype, 2, 1, 256, 200},     {dtype, 8, 2, 64, 0, 0, true}, {dtype, 40, 1, 16, 5, 0, true},
        {dtype, 8, 2, 64, 100, 0, false, 4}, {dtype, 3, 1, 40, 3, 20.0f, true, 16},
        {dtype, 4, 2, 64, 30, 0, false, 140},
    };
    for (const Shape& shape : shapes) {
      for (const int length : {1, 15, 17, 129, 300}) {
        check_values(kernels, make_sequence(shape, length, random), checks);
      }
      check_invariance(kernels, make_sequence(shape, 291, random), checks);
      check_parts(kernels, make_sequence(shape, 1100, random), checks);
    }
    check_extremes(kernels, dtype, random, checks);
  }
}

}  // namespace vivace::tests
