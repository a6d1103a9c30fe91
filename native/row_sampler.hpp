// Draws tokens with the kernels of one ISA level. One thread at a time.
#pragma once

#include "kernels.hpp"
#include "memory.hpp"

namespace vivace {

class RowSampler {
 public:
  explicit RowSampler(Isa isa) : kernels_(kernels(isa).sampling) {}

  // The drawn token's id.
  int draw(const DrawTask& task) {
    const std::size_t bytes = kernels_.scratch_bytes(task.size);
    if (scratch_.bytes() < bytes) scratch_ = Memory(bytes);
    return kernels_.draw(task, scratch_.at());
  }

 private:
  const SamplingKernels& kernels_;
  Memory scratch_;
};

}  // namespace vivace
