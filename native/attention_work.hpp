// One item of attention at work: its memory, and the states of its parts (attention_impl.hpp).
#pragma once

#include "attention_softmax.hpp"
#include "kv_unpack.hpp"

namespace vivace::VIVACE_ISA {

VIVACE_INLINE int clamp(int x, int low, int high) { return x < low ? low : x > high ? high : x; }

// What an item's rows see is summed segment by segment: rows that evict meet the sinks with queries
// of their own.
enum class Segment { sinks, recent };

// One thread's memory for one item; each but the last three holds one block per KV head.
struct AttentionScratch {
  char* queries;        // PackedRows of the head's queries
  char* tails;          // values of the last page, cleared behind the last position
  float* part;          // states of one part
  float* folded;        // states of the parts before
  float* scores;        // [rows of a block][kBlockTokens]
  char* probabilities;  // [rows of a block], kBlockTokens each
  char* unpacked;       // a super-block's packed pages, unpacked; where there are any
};

VIVACE_INLINE PackedRows query_rows(const KVLayout& kv, int queries, void* data) {
  return {.kind = row_kind(kv.dtype), .m = queries, .k = kv.head_dim, .data = data};
}

VIVACE_INLINE std::size_t query_bytes(const KVLayout& kv, int queries) {
  return units(rows_bytes(query_rows(kv, queries, nullptr)), kAlignment) * kAlignment;
}

VIVACE_INLINE char* take(char*& free, std::size_t bytes) {
  char* const taken = free;
  free += units(bytes, kAlignment) * kAlignment;
  return taken;
}

// Lays the scratch out from `base`; returns its end.
static char* lay_out(const AttentionLayer& layer, int num_rows, char* base,
                     AttentionScratch& scratch) {
  const KVLayout& kv = layer.kv;
  const int queries = num_rows * group_of(layer);
  const std::size_t state = sizeof(float) * attention_state_floats(layer, num_rows);
  scratch.queries = take(base, query_bytes(kv, queries) * kv.num_kv_heads);
  scratch.tails = take(base, value_bytes(kv) * kv.num_kv_heads);
  scratch.part = (float*)take(base, state);
  scratch.folded = (float*)take(base, state);
  scratch.scores = (float*)take(base, sizeof(float) * kMaxBlockRows * kBlockTokens);
  scratch.probabilities = take(base, std::size_t(kMaxBlockRows) * kProbabilityStride);
  if (layer.far.pages != nullptr) {
    scratch.unpacked = take(base, kBlockPages * unpacked_page_bytes(kv));
  }
  return base;
}

// The end of the positions that an item's rows see of its parts, sinks left out.
VIVACE_INLINE int end_position(const AttentionItem& item) {
  const int end = (item.first_part + item.num_parts - item.sink_parts) * kPartTokens;
  const int seen = item.first_position + item.num_rows;
  return end < seen ? end : seen;
}

// An item at work. Query i of a KV head is row i / group of the item, head i % group of its group.
struct Work {
  const AttentionLayer& layer;
  const AttentionItem& item;
  AttentionScratch scratch;
  int group;
  int queries;  // per KV head
  Segment segment = Segment::recent;

  const KVLayout& kv() const { return layer.kv; }
  int position(int query) const { return item.first_position + query / group; }
  int last_position() const { return item.first_position + item.num_rows - 1; }
  // What a row sees of the segment in the super-block at `start`.
  Visible visible(int position, int start) const {
    if (segment == Segment::sinks) {
      const int sinks = evicts(item.sight, position) ? item.sight.sinks : 0;
      return {0, clamp(sinks - start, 0, kBlockTokens)};
    }
    const int begin = clamp(first_visible(item.sight, position) - start, 0, kBlockTokens);
    return {begin, clamp(position + 1 - start, 0, kBlockTokens)};
  }
  // Head index of a query of the item's KV head `head`.
  int query_head(int head, int query) const {
    return (item.first_kv_head + head) * group + query % group;
  }
  const char* page(int block) const {
    return (const char*)layer.pages + item.block_table[block] * layer.page_stride;
  }
  // Packed pages hold what is before this position.
  int far_end() const {
    return layer.far.pages == nullptr ? 0 : item.first_position / kPackedTokens * kPackedTokens;
  }
  PackedRows packed(int head) const {
    return query_rows(kv(), queries, scratch.queries + head * query_bytes(kv(), queries));
  }
  char* tail(int head) const { return scratch.tails + head * value_bytes(kv()); }
  char* unpacked(int page) const { return scratch.unpacked + page * unpacked_page_bytes(kv()); }
};

// --- states ---

VIVACE_INLINE RowStates state_of(const Work& work, float* states, int head) {
  float* const largest = states + head * head_state_floats(work.layer, work.item.num_rows);
  return {largest, largest + padded_queries(work.queries), state_width(work.kv())};
}

// The states of the item's part `part`, of its own KV heads.
VIVACE_INLINE float* part_states(const Work& work, int part) {
  if (work.item.states == nullptr) return part == 0 ? work.scratch.folded : work.scratch.part;
  const AttentionLayer& layer = work.layer;
  const int num_rows = work.item.num_rows;
  return work.item.states + part * attention_state_floats(layer, num_rows) +
         work.item.first_kv_head * head_state_floats(layer, num_rows);
}

VIVACE_INLINE void clear_state(const Work& work, RowStates state) {
  for (int q = 0; q < padded_queries(work.queries); q += 16) {
    store(state.largest + q, broadcast(kLowest));
  }
  const std::int64_t count = std::int64_t(work.queries) * state.width;
  for (std::int64_t i = 0; i < count; i += 16) store(state.sums + i, zero());
}

// into = into + part, in this order.
static void fold_state(const Work& work, RowStates part, RowStates into) {
  for (int first = 0; first < work.queries; first += 16) {
    const V16 a = load(into.largest + first), b = load(part.largest + first);
    const V16 largest = max(a, b);
    float keep[16], add[16];
    store(keep, exp2(a - largest));
    store(add, exp2(b - largest));
    store(into.largest + first, largest);
    const int last = first + 16 < work.queries ? first + 16 : work.queries;
    for (int q = first; q < last; ++q) {
      for (int d = 0; d < into.width; d += 16) {
        const V16 kept = load(into.row(q) + d) * broadcast(keep[q - first]);
        store(into.row(q) + d, fma(load(part.row(q) + d), broadcast(add[q - first]), kept));
      }
    }
  }
}

// The power of the sink of one query: a logit without a value.
VIVACE_INLINE float sink_power(const Work& work, int query_head, float largest) {
  if (work.layer.sinks == nullptr) return 0.0f;
  const V16 sink = broadcast(work.layer.sinks[query_head] * kLog2E - largest);
  return reduce_max(exp2(min(sink, broadcast(127.0f))));
}

VIVACE_INLINE void write_rows(const Work& work, RowStates state, int head) {
  const int dim = work.kv().head_dim;
  for (int q = 0; q < work.queries; ++q) {
    const float* sums = state.row(q);
    const int query_head = work.query_head(head, q);
    const float total = reduce_add(load(sums + state.width - 16)) +
                        sink_power(work, query_head, state.largest[q]);
    const V16 scale = broadcast(1.0f / total);
    float* out = work.item.out + q / work.group * work.item.out_stride +
                 std::int64_t(query_head) * dim;
    for (int d = 0; d < dim; d += 16) {
      store_partial(out + d, load(sums + d) * scale, dim - d < 16 ? dim - d : 16);
    }
  }
}

}  // namespace vivace::VIVACE_ISA
