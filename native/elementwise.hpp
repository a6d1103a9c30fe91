// Kernels on single rows: what stands between matmuls and attention. Plain data, as kernels.hpp.
#pragma once

#include <cstdint>

#include "kv_layout.hpp"

namespace vivace {

enum class SourceType { float32, float16, bfloat16, int8, int4 };
enum class NormKind { rms, layer };
enum class ActivationKind { silu, gelu, gelu_tanh, relu, swiglu_clamped };

// RMSNorm or LayerNorm over `width` values. bias may be null.
struct NormTask {
  NormKind kind = NormKind::rms;
  int width = 0;
  const float* weight = nullptr;
  const float* bias = nullptr;
  float eps = 0.0f;
};

// See `Activation` in backends/protocol.py.
struct ActivationTask {
  ActivationKind kind = ActivationKind::silu;
  bool gated = false;
  float limit = 0.0f;
  float alpha = 0.0f;
};

// Where one token's head stands in the pages of a layer.
//   page: the start of its page.
struct PageSlot {
  KVLayout kv;
  void* page = nullptr;
  int head = 0;
  int slot = 0;
};

struct RowKernels {
  // A stored row as `dtype`; rounds to nearest even.
  void (*convert)(const void* source, SourceType type, int width, DType dtype, void* out);
  // out = multiplier * token (+ position). Both are rows of `dtype`; position may be null.
  void (*embed)(const void* token, const void* position, DType dtype, float multiplier, int width,
                float* out);
  // out may be x itself.
  void (*normalize)(const float* x, const NormTask& norm, float* out);
  // Gated: in is [gate | up], each `width` wide. out may be in itself.
  void (*activate)(const float* in, const ActivationTask& activation, int width, float* out);
  // out = residual + multiplier * y; out may be either.
  void (*add)(const float* residual, const float* y, float multiplier, int width, float* out);
  // sum += weight * y.
  void (*accumulate)(float* sum, const float* y, float weight, int width);
  // x = softcap * tanh(multiplier * x / softcap); softcap 0 only multiplies.
  void (*cap)(float* x, float multiplier, float softcap, int width);
  // Turns pairs (i, i + half) of a head by angles of the given cosines and sines, in place.
  void (*turn)(float* head, const float* cos, const float* sin, int half);
  void (*write_key)(const float* head, const PageSlot& at);
  void (*write_value)(const float* head, const PageSlot& at);
  // The top_k likeliest experts and their weights; destroys the logits. Ties: the lower index.
  void (*route)(float* logits, int num_experts, int top_k, bool renormalize, std::int32_t* chosen,
                float* weights);
};

}  // namespace vivace
