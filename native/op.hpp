// What an op of a program is, and what it works with during one step.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>

#include "batch.hpp"
#include "memory.hpp"
#include "runtime.hpp"
#include "weights.hpp"

namespace vivace {

// An activation of the step: float32 [rows][width] in one of the program's buffers.
struct Rows {
  float* data = nullptr;
  int width = 0;

  float* row(std::size_t index) const { return data + index * width; }
};

// A place in the scratch memory that a program's ops share, each for the time it runs.
template <typename T>
struct Scratch {
  std::size_t offset = 0;

  T* in(char* scratch) const { return reinterpret_cast<T*>(scratch + offset); }
};

// Lays out one op's scratch memory.
class ScratchLayout {
 public:
  template <typename T>
  Scratch<T> take(std::size_t count) {
    const std::size_t offset = bytes_;
    bytes_ += aligned(count * sizeof(T));
    return {offset};
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_ = 0;
};

// What an op is built for.
struct OpContext {
  const Runtime& runtime;
  DType dtype;
  int max_rows;
  int max_logit_rows;
};

// Some rows of a batch that have the adapter of one slot, in ascending order: at most
// kAdapterRows, which one thread works on.
constexpr int kAdapterRows = 16;

struct AdapterRows {
  int slot;  // from 1
  Ints rows;
};

// One step, as ops see it.
//   sequence_of: the sequence of each row.
//   adapters: none where no row has one.
//   next: what the next op that has weights reads of them.
struct Frame {
  Runtime& runtime;
  const Batch& batch;
  const std::int32_t* sequence_of;
  char* scratch;
  Reads next = {};
  std::span<const AdapterRows> adapters = {};
};

class Op {
 public:
  virtual ~Op() = default;
  virtual void run(const Frame& frame) const = 0;
  // What its matmul reads, if that is known before it runs.
  virtual Reads reads() const { return {}; }
  // Narrows what a batch may hold to what this op can take.
  virtual void narrow(BatchBounds&) const {}
  std::size_t scratch_bytes() const { return layout_.bytes(); }

 protected:
  ScratchLayout layout_;
};

using OpPtr = std::unique_ptr<Op>;

// A norm and the gain and bias it holds on to.
struct Norm {
  NormKind kind;
  std::shared_ptr<const Vector> weight;
  std::shared_ptr<const Vector> bias;  // or null
  float eps;

  int width() const { return static_cast<int>(weight->size()); }
  NormTask task() const {
    return {kind, width(), weight->data(), bias ? bias->data() : nullptr, eps};
  }
};

// body(row, thread) for each row; small batches of narrow rows stay on this thread. Many rows are
// claimed in long runs: neighbours of packed rows share cache lines.
template <typename Body>
void for_rows(Runtime& runtime, int rows, int width, Body body) {
  constexpr int kLeastValues = 8192;
  const int share = rows / (4 * static_cast<int>(runtime.pool.threads()));
  const std::uint32_t claim = std::max({1, kLeastValues / std::max(1, width), share});
  runtime.pool.parallel_ranges(
      rows, {claim, claim}, [&](std::size_t begin, std::size_t end, unsigned thread) {
        for (std::size_t row = begin; row < end; ++row) body(static_cast<int>(row), thread);
      });
}

}  // namespace vivace
