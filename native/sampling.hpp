// Drawing a token from a row of logits. Plain data, as kernels.hpp.
#pragma once

#include <cstddef>

namespace vivace {

// What may be drawn from a row, and where in it: see `Limits` and `draw` of decoding/draw.py, whose
// results these are, to the bit.
//   best: the largest logit; finite. No logit is NaN or above it.
//   uniform: in [0, 1).
struct DrawTask {
  const float* logits = nullptr;
  int size = 0;
  float best = 0.0f;
  float inverse_temperature = 1.0f;
  float least = 0.0f;
  int count = 0;
  double top_p = 1.0;
  double uniform = 0.0;
};

struct SamplingKernels {
  // Of `draw` for a row of `size` logits, aligned to kAlignment.
  std::size_t (*scratch_bytes)(int size);
  // The token's id.
  int (*draw)(const DrawTask& task, void* scratch);
};

}  // namespace vivace
