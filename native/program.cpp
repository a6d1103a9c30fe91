#include "program.hpp"

#include <algorithm>
#include <stdexcept>

namespace vivace {

Program::Program(std::shared_ptr<Runtime> runtime, DType dtype,
                 std::vector<std::shared_ptr<KVCache>> caches, const ProgramLimits& limits,
                 const std::vector<std::size_t>& buffer_sizes)
    : runtime_(std::move(runtime)),
      dtype_(dtype),
      caches_(std::move(caches)),
      limits_(limits),
      sequence_of_(limits.max_tokens),
      adapter_rows_(limits.max_tokens) {
  adapters_.reserve(limits.max_tokens);
  for (const std::size_t size : buffer_sizes) buffers_.emplace_back(size * sizeof(float));
  bounds_.max_rows = limits.max_tokens;
  bounds_.max_sequences = limits.max_sequences;
  bounds_.max_logit_rows = limits.max_logit_rows;
  bounds_.group_pages.resize(caches_.size());
  bounds_.group_queries.resize(caches_.size());
}

OpContext Program::context() const {
  return {*runtime_, dtype_, limits_.max_tokens, limits_.max_logit_rows};
}

const std::shared_ptr<KVCache>& Program::cache(int group) const {
  if (group < 0 || std::size_t(group) >= caches_.size()) {
    throw std::invalid_argument(
        "The cpu backend's attention works on pages: compile with a KV cache for each KV group.");
  }
  return caches_[group];
}

Rows Program::rows(int buffer, int width, std::size_t count) const {
  const Memory& memory = buffers_.at(buffer);
  if (width <= 0 || count > memory.bytes() / sizeof(float) / width) {
    throw std::out_of_range("A value's rows do not fit its buffer.");
  }
  return {memory.at<float>(), width};
}

void Program::add(OpPtr op) {
  op->narrow(bounds_);
  if (op->scratch_bytes() > scratch_.bytes()) scratch_ = Memory(op->scratch_bytes());
  expect(op->reads());
  ops_.push_back(std::move(op));
  next_.emplace_back();
}

void Program::expect(const Reads& reads) {
  for (auto next = next_.rbegin(); next != next_.rend() && next->items == 0; ++next) *next = reads;
}

void Program::group_by_adapter(Ints adapter_ids) {
  adapters_.clear();
  const int adapted = std::count_if(adapter_ids.begin(), adapter_ids.end(),
                                    [](std::int32_t slot) { return slot > 0; });
  const int threads = static_cast<int>(runtime_->pool.threads());
  const std::size_t most = std::clamp((adapted + threads - 1) / threads, 1, kAdapterRows);
  std::size_t begin = 0, end = 0;
  for (int slot = 1; slot <= bounds_.adapter_slots; ++slot) {
    for (std::size_t row = 0; row < adapter_ids.size(); ++row) {
      if (adapter_ids[row] == slot) adapter_rows_[end++] = static_cast<std::int32_t>(row);
    }
    while (begin < end) {
      const std::size_t count = std::min(most, end - begin);
      adapters_.push_back({slot, {&adapter_rows_[begin], count}});
      begin += count;
    }
  }
}

void Program::run(const Batch& batch) {
  validate(batch, bounds_);
  const auto held = runtime_->hold();
  for (int s = 0; s < batch.sequences(); ++s) {
    const int begin = batch.query_starts[s], end = batch.query_starts[s + 1];
    std::fill(sequence_of_.begin() + begin, sequence_of_.begin() + end, s);
  }
  group_by_adapter(batch.adapter_ids);
  for (std::size_t i = 0; i < ops_.size(); ++i) {
    ops_[i]->run({*runtime_, batch, sequence_of_.data(), scratch_.at(), next_[i], adapters_});
  }
  ++runs_;
}

}  // namespace vivace
