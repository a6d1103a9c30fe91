#include "batch.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace vivace {
namespace {

void require(bool holds, const char* rule) {
  if (!holds) throw std::invalid_argument(std::string("Invalid batch: ") + rule + ".");
}

// Windows and sinks: their sum must not overflow.
constexpr int kMaxSight = 1 << 30;

bool all_below(Ints values, int bound) {
  return std::all_of(values.begin(), values.end(), [bound](std::int32_t value) {
    return static_cast<std::uint32_t>(value) < static_cast<std::uint32_t>(bound);
  });
}

void validate_sizes(const Batch& batch, const BatchBounds& bounds) {
  const std::size_t rows = batch.token_ids.size(), sequences = batch.context_lens.size();
  require(rows <= std::size_t(bounds.max_rows), "more tokens than the program was compiled for");
  require(sequences <= std::size_t(bounds.max_sequences),
          "more sequences than the program was compiled for");
  require(batch.logit_rows.size() <= std::size_t(bounds.max_logit_rows),
          "more logit rows than the program was compiled for");
  require(batch.positions.size() == rows, "as many positions as tokens are needed");
  require(batch.adapter_ids.empty() || batch.adapter_ids.size() == rows,
          "as many adapter ids as tokens are needed");
  require(batch.query_starts.size() == sequences + 1,
          "query_starts must have one value more than there are sequences");
  require(batch.query_starts.front() == 0 && batch.query_starts.back() == batch.rows(),
          "query_starts must run from 0 to the number of tokens");
}

void validate_sights(const Batch& batch) {
  require(batch.sights.empty() || batch.sights.size() == 3 * batch.context_lens.size(),
          "each sequence needs a window, sinks and a first position, or none does");
  require(all_below(batch.sights, kMaxSight), "a window or its sinks are negative or too large");
}

void validate_observed(const Batch& batch, const BatchBounds& bounds) {
  if (batch.observed_rows.empty()) return;
  require(all_below(batch.observed_rows, batch.rows()),
          "an observed row is not a row of the batch");
  require(batch.observed.size() == bounds.group_queries.size(),
          "each KV group needs a place for observed queries");
  for (std::size_t group = 0; group < batch.observed.size(); ++group) {
    const std::optional<GroupQueries>& written = bounds.group_queries[group];
    const ObservedQueries& place = batch.observed[group];
    require(!written || (written->layers == place.layers && written->width == place.width),
            "a place for observed queries has another shape");
  }
}

void validate_sequence(const Batch& batch, int sequence) {
  const int begin = batch.query_starts[sequence], end = batch.query_starts[sequence + 1];
  require(begin < end && end <= batch.rows(), "every sequence must have rows of the batch");
  const int first = batch.context_lens[sequence] - (end - begin);
  require(first >= 0, "a context must be at least as long as its rows");
  require(batch.sight(sequence).first <= first, "a row must see itself");
  for (int row = begin; row < end; ++row) {
    require(batch.positions[row] == first + (row - begin),
            "a sequence's positions must be consecutive and end its context");
  }
}

void validate_pages(const Batch& batch, const BatchBounds& bounds, std::size_t group) {
  const std::optional<GroupPages> pages = bounds.group_pages[group];
  if (!pages) return;
  require(group < batch.block_tables.size(), "each KV group needs a block table");
  const BlockTable& table = batch.block_tables[group];
  require(table.sequences == batch.sequences(), "each sequence needs a row of the block table");
  for (int sequence = 0; sequence < batch.sequences(); ++sequence) {
    const int blocks = (batch.context_lens[sequence] + pages->tokens - 1) / pages->tokens;
    require(blocks <= table.width, "a block table is shorter than its context");
    require(all_below({table.row(sequence), std::size_t(blocks)}, pages->count),
            "a block table names a page that does not exist");
  }
}

}  // namespace

void validate(const Batch& batch, const BatchBounds& bounds) {
  validate_sizes(batch, bounds);
  validate_sights(batch);
  validate_observed(batch, bounds);
  for (int s = 0; s < batch.sequences(); ++s) validate_sequence(batch, s);
  require(all_below(batch.token_ids, bounds.vocab_size), "a token id is outside the vocabulary");
  require(all_below(batch.positions, bounds.positions),
          "a position is beyond the longest sequence that the model was loaded for");
  require(all_below(batch.logit_rows, batch.rows()), "a logit row is not a row of the batch");
  require(all_below(batch.adapter_ids, bounds.adapter_slots + 1),
          "a row names an adapter that there is no room for");
  for (std::size_t group = 0; group < bounds.group_pages.size(); ++group) {
    validate_pages(batch, bounds, group);
  }
}

}  // namespace vivace
