// A forward pass as a list of ops over buffers planned beforehand: a step allocates nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "op.hpp"
#include "ops.hpp"

namespace vivace {

struct ProgramLimits {
  int max_tokens;
  int max_sequences;
  int max_logit_rows;
};

class Program {
 public:
  // buffer_sizes: floats of each buffer.
  Program(std::shared_ptr<Runtime> runtime, DType dtype,
          std::vector<std::shared_ptr<KVCache>> caches, const ProgramLimits& limits,
          const std::vector<std::size_t>& buffer_sizes);

  OpContext context() const;
  // Throws std::invalid_argument for a group that has no pages.
  const std::shared_ptr<KVCache>& cache(int group) const;
  // Rows of `width` in a buffer: `count`, or as many as a batch may have tokens or logits. Throw
  // std::out_of_range for an unknown buffer and for one that is too small.
  Rows rows(int buffer, int width, std::size_t count) const;
  Rows rows(int buffer, int width) const { return rows(buffer, width, limits_.max_tokens); }
  // Queries: rows as they meet what is recent, and behind them as they meet the sinks.
  Rows queries(int buffer, int width) const { return rows(buffer, width, 2 * limits_.max_tokens); }
  Rows logit_rows(int buffer, int width) const {
    return rows(buffer, width, limits_.max_logit_rows);
  }
  void add(OpPtr op);

  // Runs every op for a batch. Throws std::invalid_argument for a batch it cannot take; nothing
  // has been written then.
  void run(const Batch& batch);
  std::int64_t runs() const { return runs_; }

 private:
  // Sorts the batch's rows by their adapter, in shares for the threads.
  void group_by_adapter(Ints adapter_ids);
  // Tells the ops before what comes next, back to the last one that knows.
  void expect(const Reads& reads);

  std::shared_ptr<Runtime> runtime_;
  DType dtype_;
  std::vector<std::shared_ptr<KVCache>> caches_;
  ProgramLimits limits_;
  std::vector<Memory> buffers_;
  std::vector<OpPtr> ops_;
  std::vector<Reads> next_;  // of each op's successors
  BatchBounds bounds_;
  Memory scratch_;
  std::vector<std::int32_t> sequence_of_;
  std::vector<std::int32_t> adapter_rows_;
  std::vector<AdapterRows> adapters_;
  std::int64_t runs_ = 0;
};

}  // namespace vivace
