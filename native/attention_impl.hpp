// Causal attention over paged keys and values, by online softmax (Milakov and Gimelshein 2018;
// Dao et al. 2022) over super-blocks of 128 positions.
//
// Super-blocks are aligned to absolute positions, and what a row does not see adds exactly zero:
// a row's result depends on its own position, never on how rows are grouped into items.
#pragma once

#include "attention_products.hpp"
#if defined(VIVACE_TILES)
#include "attention_tiles.hpp"
#endif

namespace vivace::VIVACE_ISA {

// Query rows of an item that is large enough to use its keys well.
constexpr int kItemQueries = 64;

// Below any score, and finite so that differences of it are numbers.
constexpr float kLowest = -1e38f;

// Running softmax of one query row: the largest score so far and the sum of exponentials.
struct RowState {
  float largest;
  float sum;
};

// The positions [begin, end) of a super-block that a query row sees, relative to its start.
struct Visible {
  int begin;
  int end;
};

VIVACE_INLINE int clamp(int x, int low, int high) { return x < low ? low : x > high ? high : x; }

VIVACE_INLINE int first_visible(const AttentionLayer& layer, int position) {
  const int first = position - layer.window + 1;
  return layer.window == 0 || first < 0 ? 0 : first;
}

VIVACE_INLINE Visible visible(const AttentionLayer& layer, int position, int start) {
  const int begin = clamp(first_visible(layer, position) - start, 0, kBlockTokens);
  return {begin, clamp(position + 1 - start, 0, kBlockTokens)};
}

VIVACE_INLINE V16 hide(V16 scores, Visible seen, int token) {
  const V16 hidden = broadcast(-__builtin_inff());
  if (token + 16 > seen.end) {
    scores = select(first_lanes(clamp(seen.end - token, 0, 16)), scores, hidden);
  }
  if (token < seen.begin) {
    scores = select(first_lanes(clamp(seen.begin - token, 0, 16)), hidden, scores);
  }
  return scores;
}

VIVACE_INLINE V16 cap_scores(const AttentionLayer& layer, V16 scores) {
  scores = scores * broadcast(layer.scale);
  if (layer.softcap == 0.0f) return scores;
  const V16 cap = broadcast(layer.softcap);
  return cap * tanh(scores / cap);
}

// Turns one row's scores of tokens [16 first, 16 last) into probabilities relative to the row's new
// largest score, and returns the factor for what was summed before.
template <class Step>
VIVACE_INLINE float soften_row(const AttentionLayer& layer, RowState& state, float* scores,
                               char* probabilities, Visible seen, PageRange pages) {
  V16 largest = broadcast(state.largest);
  for (int p = pages.begin; p < pages.end; ++p) {
    const V16 s = hide(cap_scores(layer, load(scores + 16 * p)), seen, 16 * p);
    store(scores + 16 * p, s);
    largest = max(largest, s);
  }
  const float now = reduce_max(largest);
  V16 sum = zero();
  for (int p = pages.begin; p < pages.end; ++p) {
    const V16 e = exp(load(scores + 16 * p) - broadcast(now));
    Step::put(probabilities, 16 * p, e);
    sum = sum + e;
  }
  const float factor = first_lane(exp(broadcast(state.largest - now)));
  state.sum = state.sum * factor + reduce_add(sum);
  state.largest = now;
  return factor;
}

// One thread's memory for one item.
struct AttentionScratch {
  char* queries;        // PackedRows of all query rows
  char* tail;           // values of the last page, cleared behind the last position
  float* sums;          // [query rows][value_width]
  RowState* states;     // [query rows]
  float* scores;        // [rows of a block][kBlockTokens]
  char* probabilities;  // [rows of a block], kBlockTokens each
};

VIVACE_INLINE PackedRows query_rows(const KVLayout& kv, int queries, void* data) {
  return {.kind = row_kind(kv.dtype), .m = queries, .k = kv.head_dim, .data = data};
}

VIVACE_INLINE std::size_t take(std::size_t& used, std::size_t bytes) {
  const std::size_t start = used;
  used += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return start;
}

// Lays the scratch out from `base`; returns the bytes used.
static std::size_t lay_out(const AttentionLayer& layer, int queries, char* base,
                           AttentionScratch& scratch) {
  const KVLayout& kv = layer.kv;
  std::size_t used = 0;
  scratch.queries = base + take(used, rows_bytes(query_rows(kv, queries, nullptr)));
  scratch.tail = base + take(used, value_bytes(kv));
  scratch.sums = (float*)(base + take(used, sizeof(float) * queries * value_width(kv)));
  scratch.states = (RowState*)(base + take(used, sizeof(RowState) * queries));
  scratch.scores = (float*)(base + take(used, sizeof(float) * kMaxBlockRows * kBlockTokens));
  scratch.probabilities = base + take(used, std::size_t(kMaxBlockRows) * kProbabilityStride);
  return used;
}

// An item at work: query row i is row i / group of the item, head i % group of the KV head.
struct Work {
  const AttentionLayer& layer;
  const AttentionItem& item;
  AttentionScratch scratch;
  int group;
  int queries;

  int position(int query) const { return item.first_position + query / group; }
  int last_position() const { return item.first_position + item.num_rows - 1; }
  int head(int query) const { return item.kv_head * group + query % group; }
};

template <class Products>
VIVACE_INLINE void begin_rows(const Work& work) {
  const KVLayout& kv = work.layer.kv;
  const PackedRows rows = query_rows(kv, work.queries, work.scratch.queries);
  for (int q = 0; q < work.queries; ++q) {
    const std::int64_t row = q / work.group * work.item.query_stride;
    const float* query = work.item.queries + row + std::int64_t(work.head(q)) * kv.head_dim;
    pack_row_as(Products::kQueryLayout, query, rows, q);
    const float* sinks = work.layer.sinks;
    // A sink is a logit seen before all others, with no value.
    work.scratch.states[q] = sinks ? RowState{sinks[work.head(q)], 1.0f} : RowState{kLowest, 0.0f};
  }
  const std::int64_t count = std::int64_t(work.queries) * value_width(kv);
  for (std::int64_t i = 0; i < count; i += 16) store(work.scratch.sums + i, zero());
}

VIVACE_INLINE void end_rows(const Work& work) {
  const int dim = work.layer.kv.head_dim;
  for (int q = 0; q < work.queries; ++q) {
    const float* sums = work.scratch.sums + std::int64_t(q) * value_width(work.layer.kv);
    float* out = work.item.out + q / work.group * work.item.out_stride +
                 std::int64_t(work.head(q)) * dim;
    const V16 total = broadcast(work.scratch.states[q].sum);
    for (int d = 0; d < dim; d += 16) {
      store_partial(out + d, load(sums + d) / total, dim - d < 16 ? dim - d : 16);
    }
  }
}

// What follows the last position in its page is unwritten or stale: a probability of zero must
// not meet a NaN there.
static void copy_tail(const Work& work) {
  const KVLayout& kv = work.layer.kv;
  const int last = work.last_position();
  const char* page = (const char*)work.layer.pages +
                     work.item.block_table[last / kPageTokens] * work.layer.page_stride;
  std::memcpy(work.scratch.tail, page + value_offset(kv, work.item.kv_head), value_bytes(kv));
  for (int slot = last % kPageTokens + 1; slot < kPageTokens; ++slot) {
    for (int d = 0; d < value_width(kv); ++d) {
      char* value = work.scratch.tail + value_index(kv, slot, d) * element_bytes(kv.dtype);
      std::memset(value, 0, element_bytes(kv.dtype));
    }
  }
}

// Where the keys and values of a super-block's pages stand.
VIVACE_INLINE BlockPages find_pages(const Work& work, int start, PageRange range) {
  const KVLayout& kv = work.layer.kv;
  BlockPages pages{};
  for (int p = range.begin; p < range.end; ++p) {
    const int block = start / kPageTokens + p;
    const char* page =
        (const char*)work.layer.pages + work.item.block_table[block] * work.layer.page_stride;
    const bool tail = block == work.last_position() / kPageTokens;
    pages.keys[p] = page + key_offset(kv, work.item.kv_head);
    pages.values[p] = tail ? work.scratch.tail : page + value_offset(kv, work.item.kv_head);
  }
  return pages;
}

// The pages of a super-block that any of the queries [begin, end) sees.
VIVACE_INLINE PageRange seen_pages(const Work& work, int begin, int end, int start) {
  const int first = visible(work.layer, work.position(begin), start).begin;
  const int last = visible(work.layer, work.position(end - 1), start).end;
  return {first / kPageTokens, (last + kPageTokens - 1) / kPageTokens};
}

// One block of query rows against one super-block.
template <class Products>
VIVACE_INLINE void attend_block(const Work& work, int begin, int end, int start,
                                const BlockPages& pages) {
  const PageRange range = seen_pages(work, begin, end, start);
  if (range.begin >= range.end) return;
  const AttentionScratch& scratch = work.scratch;
  const KVLayout& kv = work.layer.kv;
  Products::begin_block(end - begin);
  Products::score(kv, scratch.queries, begin, end, pages, range, scratch.scores);
  float factors[kMaxBlockRows];
  for (int q = begin; q < end; ++q) {
    const Visible seen = visible(work.layer, work.position(q), start);
    factors[q - begin] = soften_row<typename Products::Step>(
        work.layer, scratch.states[q], scratch.scores + (q - begin) * kBlockTokens,
        scratch.probabilities + std::int64_t(q - begin) * kProbabilityStride, seen, range);
  }
  float* sums = scratch.sums + std::int64_t(begin) * value_width(kv);
  Products::mix(kv, scratch.probabilities, factors, end - begin, pages, range, sums);
}

template <class Products>
void attend(const Work& work) {
  begin_rows<Products>(work);
  copy_tail(work);
  const RowBlocks blocks = row_blocks(work.queries, Products::kMaxRows);
  int start = first_visible(work.layer, work.item.first_position) / kBlockTokens * kBlockTokens;
  for (; start <= work.last_position(); start += kBlockTokens) {
    const BlockPages pages = find_pages(work, start, seen_pages(work, 0, work.queries, start));
    for (int b = 0; b < blocks.count; ++b) {
      attend_block<Products>(work, blocks.begin(b), blocks.begin(b + 1), start, pages);
    }
  }
  Products::end_item();
  end_rows(work);
}

static int attention_rows(const AttentionLayer& layer) {
  const int group = layer.num_heads / layer.kv.num_kv_heads;
  return group >= kItemQueries ? 1 : kItemQueries / group;
}

static std::size_t attention_scratch_bytes(const AttentionLayer& layer, int num_rows) {
  AttentionScratch scratch;
  return lay_out(layer, num_rows * (layer.num_heads / layer.kv.num_kv_heads), nullptr, scratch);
}

static void attention(const AttentionLayer& layer, const AttentionItem& item, void* scratch) {
  const int group = layer.num_heads / layer.kv.num_kv_heads;
  Work work{layer, item, {}, group, item.num_rows * group};
  lay_out(layer, work.queries, (char*)scratch, work.scratch);
  if (layer.kv.dtype == DType::float32) return attend<VectorProducts<Float32Step>>(work);
#if defined(VIVACE_TILES)
  if (TileProducts::fits(layer.kv)) return attend<TileProducts>(work);
#endif
  attend<VectorProducts<BFloat16Step>>(work);
}

}  // namespace vivace::VIVACE_ISA
