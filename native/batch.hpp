// One ragged step, as `Batch` of backends/protocol.py has it, and what it must obey.
#pragma once

#include <climits>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "sight.hpp"

namespace vivace {

using Ints = std::span<const std::int32_t>;

// Page ids of one KV group: [sequences][width].
struct BlockTable {
  const std::int32_t* pages = nullptr;
  int sequences = 0;
  int width = 0;

  const std::int32_t* row(int sequence) const { return pages + std::size_t(sequence) * width; }
};

// Queries of some rows as they meet what is recent, for whoever asked: [layers][rows][width] of one
// KV group.
struct ObservedQueries {
  float* data;
  int layers;
  int width;
};

// sights: [sequences][window, sinks, first], or none where all see all.
// observed_rows, observed: the rows whose queries are asked for, and per KV group where they go.
struct Batch {
  Ints token_ids;
  Ints positions;
  Ints query_starts;
  Ints context_lens;
  std::vector<BlockTable> block_tables;
  Ints logit_rows;
  Ints adapter_ids = {};  // the slot of each row's adapter, 0 for none; empty where no row has one
  Ints sights;
  Ints observed_rows;
  std::vector<ObservedQueries> observed;

  Sight sight(int sequence) const {
    if (sights.empty()) return {};
    const std::int32_t* const sight = sights.data() + 3 * sequence;
    return {sight[0], sight[1], sight[2]};
  }
  int rows() const { return static_cast<int>(token_ids.size()); }
  int sequences() const { return static_cast<int>(context_lens.size()); }
};

// Pages of one KV group, and the tokens of each.
struct GroupPages {
  int count;
  int tokens;
};

// Layers of one KV group, and the width of their queries.
struct GroupQueries {
  int layers;
  int width;
};

// What a program can take, collected from its ops.
struct BatchBounds {
  int max_rows = 0;
  int max_sequences = 0;
  int max_logit_rows = 0;
  int vocab_size = INT_MAX;
  int positions = INT_MAX;
  int adapter_slots = 0;
  std::vector<std::optional<GroupPages>> group_pages;  // per KV group; none where no op reads it
  std::vector<std::optional<GroupQueries>> group_queries;
};

// Throws std::invalid_argument with a sentence that names what is wrong.
void validate(const Batch& batch, const BatchBounds& bounds);

}  // namespace vivace
