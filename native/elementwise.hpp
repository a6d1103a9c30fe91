// Kernels on single rows: what stands between matmuls and attention. Plain data, as kernels.hpp.
#pragma once

#include <cstddef>
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

// One row of a checkpoint's table.
//   scale: of int8 codes.
struct SourceRow {
  const void* values = nullptr;
  SourceType type = SourceType::float32;
  float scale = 1.0f;
};

// One row of a table as a backend keeps it: float32, bfloat16, or int8 codes + 128 in whole vectors
// with a float32 scale behind them.
struct TableRow {
  const void* data = nullptr;
  SourceType type = SourceType::float32;
};

static constexpr std::size_t table_scale_offset(int width) {
  return (std::size_t(width) + 15) / 16 * 16;
}

static constexpr std::size_t table_row_bytes(SourceType type, int width) {
  if (type == SourceType::int8) return table_scale_offset(width) + sizeof(float);
  return std::size_t(width) * (type == SourceType::float32 ? 4 : 2);
}

struct RowKernels {
  // A row as a table of `type` keeps it; rounds to nearest even, int8 as formats/rounding.py does.
  // int8 rows come from floats or int8, others from floats.
  void (*to_table)(const SourceRow& row, int width, SourceType type, void* out);
  // out = multiplier * token (+ position); position may have no data.
  void (*embed)(const TableRow& token, const TableRow& position, float multiplier, int width,
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
