// Causal attention over paged keys and values (Dao et al. 2022): online softmax over super-blocks
// of 128 positions, in parts of kPartTokens that are folded in ascending order.
//
// Parts and super-blocks are aligned to absolute positions, and what a row does not see adds
// exactly zero: a row's result depends on its own position, never on how work is cut into items.
#pragma once

#include "attention_work.hpp"
#if defined(VIVACE_TILES)
#include "attention_tiles.hpp"
#endif

namespace vivace::VIVACE_ISA {

// Query rows per KV head of an item that is large enough to use its keys well: whole blocks.
#if defined(VIVACE_TILES)
constexpr int kItemQueries = 64;
#else
constexpr int kItemQueries = 48;
#endif

// --- keys and values ---

template <class Products>
VIVACE_INLINE void pack_queries(const Work& work, int head) {
  const PackedRows rows = work.packed(head);
  const bool sinks = work.segment == Segment::sinks;
  const float* const queries = sinks ? work.item.sink_queries : work.item.queries;
  for (int q = 0; q < work.queries; ++q) {
    const float* query = queries + q / work.group * work.item.query_stride +
                         std::int64_t(work.query_head(head, q)) * work.kv().head_dim;
    pack_row_as(Products::kQueryLayout, query, rows, q);
  }
}

// What follows the last position in its page is unwritten or stale: a probability of zero must
// not meet a NaN there.
VIVACE_INLINE void copy_tail(const Work& work, int head) {
  const KVLayout& kv = work.kv();
  const int tokens = work.last_position() % kPageTokens + 1;
  const char* values = work.page(work.last_position() / kPageTokens) +
                       value_offset(kv, work.item.first_kv_head + head);
  char* const tail = work.tail(head);
  const int row = value_row_tokens(kv);
  const std::size_t row_bytes = value_bytes(kv) / kPageTokens * row;
  const std::size_t whole = tokens / row * row_bytes;
  std::memcpy(tail, values, whole);
  std::memset(tail + whole, 0, value_bytes(kv) - whole);
  if (tokens % row == 0) return;
  // The first of a pair of tokens: the low half of each word.
  for (std::size_t i = whole; i < whole + row_bytes; i += 4) std::memcpy(tail + i, values + i, 2);
}

// The pages of a super-block that any of the queries [begin, end) sees.
VIVACE_INLINE PageRange seen_pages(const Work& work, int begin, int end, int start) {
  const int first = work.visible(work.position(begin), start).begin;
  const int last = work.visible(work.position(end - 1), start).end;
  return {first / kPageTokens, (last + kPageTokens - 1) / kPageTokens};
}

// Unpacks one head's packed pages of a super-block; returns the first page behind them.
VIVACE_INLINE int unpack_far_pages(const Work& work, int head, int start, PageRange range,
                                   BlockPages& pages) {
  const PackedPages& far = work.layer.far;
  const std::size_t place = (work.item.first_kv_head + head) * packed_head(far.kv).bytes;
  int p = range.begin / 2 * 2;
  for (; p < range.end && start + p * kPageTokens < work.far_end(); p += 2) {
    const int id = work.item.far_table[(start + p * kPageTokens) / kPackedTokens];
    unpack_head(far.kv, (const char*)far.pages + id * far.page_stride + place, work.unpacked(p));
    for (int page = p; page < p + 2; ++page) {
      pages.keys[page] = work.unpacked(page);
      pages.values[page] = pages.keys[page] + unpacked_key_bytes(far.kv);
    }
  }
  return p > range.begin ? p : range.begin;
}

// Where the keys and values of one head stand in a super-block's pages, the last page's copied.
VIVACE_INLINE BlockPages find_pages(const Work& work, int head, int start, PageRange range) {
  const KVLayout& kv = work.kv();
  BlockPages pages{};
  for (int p = unpack_far_pages(work, head, start, range, pages); p < range.end; ++p) {
    const int block = start / kPageTokens + p;
    const char* page = work.page(block);
    const bool last = block == work.last_position() / kPageTokens;
    if (last) copy_tail(work, head);
    pages.keys[p] = page + key_offset(kv, work.item.first_kv_head + head);
    pages.values[p] =
        last ? work.tail(head) : page + value_offset(kv, work.item.first_kv_head + head);
  }
  return pages;
}

// The start of the first super-block that any row of an item sees of its parts, sinks left out.
VIVACE_INLINE int first_block(const AttentionItem& item) {
  const int seen = first_visible(item.sight, item.first_position) / kBlockTokens * kBlockTokens;
  const int start = item.first_part * kPartTokens;
  return start < seen ? seen : start;
}

// The packed pages that an item sees of the super-block at `start`, sinks left out.
VIVACE_INLINE Ahead far_pages_ahead(const AttentionLayer& layer, const AttentionItem& item,
                                    int start) {
  const int first = first_visible(item.sight, item.first_position);
  const int last = end_position(item) / kPackedTokens;
  const int own = item.first_position / kPackedTokens, block = start / kPackedTokens;
  const int begin = clamp(first - start, 0, kBlockTokens) / kPackedTokens;
  const int end = clamp((last < own ? last : own) - block, begin, kBlockPages / 2);
  const std::size_t head_bytes = packed_head(layer.far.kv).bytes;
  Ahead ahead{};
  ahead.bytes = item.num_kv_heads * head_bytes;
  for (int p = begin; p < end; ++p) {
    const std::int64_t page = item.far_table[block + p] * layer.far.page_stride;
    ahead.pages[ahead.count++] =
        (const char*)layer.far.pages + page + item.first_kv_head * head_bytes;
  }
  return ahead;
}

// The pages that an item sees of the super-block at `start`, sinks left out; of a layer with packed
// pages, those.
VIVACE_INLINE Ahead pages_ahead(const AttentionLayer& layer, const AttentionItem& item,
                                int start) {
  if (layer.far.pages != nullptr) return far_pages_ahead(layer, item, start);
  const int first = first_visible(item.sight, item.first_position), last = end_position(item) - 1;
  const int begin = clamp(first - start, 0, kBlockTokens) / kPageTokens;
  const int end = clamp(last / kPageTokens + 1 - start / kPageTokens, begin, kBlockPages);
  const std::size_t offset = key_offset(layer.kv, item.first_kv_head);
  Ahead ahead{};
  ahead.bytes = key_offset(layer.kv, item.num_kv_heads);
  for (int p = begin; p < end; ++p) {
    const std::int64_t id = item.block_table[start / kPageTokens + p];
    ahead.pages[ahead.count++] = (const char*)layer.pages + id * layer.page_stride + offset;
  }
  return ahead;
}

// What is read after the super-block before `start`; the sinks' last one comes before all others.
VIVACE_INLINE Ahead find_ahead(const Work& work, int start) {
  const AttentionItem* const next = work.item.next;
  if (work.segment == Segment::sinks) start = first_block(work.item);
  if (start < end_position(work.item)) return pages_ahead(work.layer, work.item, start);
  if (next == nullptr) return {};
  return pages_ahead(work.layer, *next, first_block(*next));
}

// --- work ---

// Queries [begin, end) of one head against one super-block.
template <class Products>
VIVACE_INLINE void attend_block(const Work& work, int head, int begin, int end, int start,
                                const BlockPages& pages, RowStates state, Ahead& ahead) {
  const PageRange range = seen_pages(work, begin, end, start);
  if (range.begin >= range.end) return;
  const AttentionScratch& scratch = work.scratch;
  Products::score(work.kv(), (const char*)work.packed(head).data, begin, end, pages, range, ahead,
                  scratch.scores);
  Visible seen[kMaxBlockRows];
  for (int q = begin; q < end; ++q) seen[q - begin] = work.visible(work.position(q), start);
  float factors[kMaxBlockRows];
  const SoftmaxBlock block{end - begin, scratch.scores, scratch.probabilities, state.from(begin),
                           factors};
  soften<typename Products::Step>(work.layer, block, seen, range, ahead);
  Products::mix(work.kv(), scratch.probabilities, factors, end - begin, pages, range, ahead,
                state.row(begin));
}

// Positions [start, end) for all of the item's heads.
template <class Products>
VIVACE_INLINE void attend_part(const Work& work, float* states, int start, int end) {
  const RowBlocks blocks = row_blocks(work.queries, Products::kMaxRows);
  int begun = 0;
  for (; start < end; start += kBlockTokens) {
    Ahead ahead = find_ahead(work, start + kBlockTokens);
    const PageRange range = seen_pages(work, 0, work.queries, start);
    for (int head = 0; head < work.item.num_kv_heads; ++head) {
      const BlockPages pages = find_pages(work, head, start, range);
      const RowStates state = state_of(work, states, head);
      for (int b = 0; b < blocks.count; ++b) {
        const int rows = blocks.begin(b + 1) - blocks.begin(b);
        if (rows != begun) Products::begin_block(rows);
        begun = rows;
        attend_block<Products>(work, head, blocks.begin(b), blocks.begin(b + 1), start, pages,
                               state, ahead);
      }
    }
  }
}

// The sinks, for those of the item's rows that evict.
template <class Products>
void attend_sinks(const Work& work, float* states) {
  Work sinks = work;
  sinks.segment = Segment::sinks;
  for (int head = 0; head < work.item.num_kv_heads; ++head) pack_queries<Products>(sinks, head);
  attend_part<Products>(sinks, states, 0, work.item.sight.sinks);
}

template <class Products>
void attend(const Work& work) {
  const AttentionItem& item = work.item;
  const int heads = item.num_kv_heads;
  const bool folds = item.states == nullptr;
  const int first = first_block(item), last = end_position(item);
  for (int part = 0; part < item.num_parts; ++part) {
    float* const states = part_states(work, part);
    for (int head = 0; head < heads; ++head) clear_state(work, state_of(work, states, head));
    if (part < item.sink_parts) {
      attend_sinks<Products>(work, states);
      continue;
    }
    const int recent = part - item.sink_parts;
    for (int head = 0; head < heads && recent == 0; ++head) pack_queries<Products>(work, head);
    const int start = (item.first_part + recent) * kPartTokens, end = start + kPartTokens;
    attend_part<Products>(work, states, start < first ? first : start, end < last ? end : last);
    for (int head = 0; head < heads && folds && part > 0; ++head) {
      fold_state(work, state_of(work, states, head), state_of(work, work.scratch.folded, head));
    }
  }
  Products::end_item();
  for (int head = 0; head < heads && folds; ++head) {
    write_rows(work, state_of(work, work.scratch.folded, head), head);
  }
}

static int attention_rows(const AttentionLayer& layer) {
  const int group = group_of(layer);
  const int rows = group >= kItemQueries ? 1 : kItemQueries / group;
  return layer.far.pages != nullptr && rows > kPackedTokens ? kPackedTokens : rows;
}

static std::size_t attention_scratch_bytes(const AttentionLayer& layer, int num_rows) {
  AttentionScratch scratch;
  return std::size_t(lay_out(layer, num_rows, nullptr, scratch));
}

static Work work_of(const AttentionLayer& layer, const AttentionItem& item, void* scratch) {
  const int group = group_of(layer);
  Work work{layer, item, {}, group, item.num_rows * group};
  lay_out(layer, item.num_rows, (char*)scratch, work.scratch);
  return work;
}

static void attention(const AttentionLayer& layer, const AttentionItem& item, void* scratch) {
  const Work work = work_of(layer, item, scratch);
  if (layer.kv.dtype == DType::float32) return attend<VectorProducts<Float32Step>>(work);
#if defined(VIVACE_TILES)
  if (TileProducts::fits(layer.kv)) return attend<TileProducts>(work);
#endif
  attend<VectorProducts<BFloat16Step>>(work);
}

static void fold_attention(const AttentionLayer& layer, const AttentionItem& item, void* scratch) {
  const Work work = work_of(layer, item, scratch);
  for (int head = 0; head < item.num_kv_heads; ++head) {
    const RowStates folded = state_of(work, part_states(work, 0), head);
    for (int part = 1; part < item.num_parts; ++part) {
      fold_state(work, state_of(work, part_states(work, part), head), folded);
    }
    write_rows(work, folded, head);
  }
}

}  // namespace vivace::VIVACE_ISA
