// The ops of a program, one maker each; what each does stands in backends/protocol.py.
#pragma once

#include <optional>
#include <vector>

#include "adapters.hpp"
#include "op.hpp"

namespace vivace {

// Where a block's output goes: into + multiplier * post_norm(output).
struct Residual {
  Rows into;
  std::optional<Norm> post_norm;
  float multiplier = 1.0f;
};

struct EmbedOp {
  std::shared_ptr<const Embedding> tokens;
  std::shared_ptr<const Embedding> positions;  // or null
  float multiplier;
};

// softcap, window: 0 is none.
// far: the packed pages of what is before a row's own block, as AttentionLayer has them; or null.
struct AttentionOp {
  std::shared_ptr<const KVCache> cache;
  int group;
  int layer;
  int num_heads;
  float scale;
  int window;
  float softcap;
  std::shared_ptr<const Vector> sinks;  // or null
  std::shared_ptr<const KVCache> far = nullptr;
  int far_group = 0;
};

struct RotaryWriteOp {
  std::shared_ptr<const RotaryTable> rotary;  // or null
  std::optional<Norm> q_norm;
  std::optional<Norm> k_norm;
};

struct ExpertsOp {
  LinearPtr router;
  std::vector<LinearPtr> up;
  std::vector<LinearPtr> down;
  ActivationTask activation;
  int top_k;
  bool renormalize;
};

// Queries as they meet the sinks: behind all those that meet the rest (Program::queries).
inline Rows sink_plane(const OpContext& context, Rows queries) {
  return {queries.row(context.max_rows), queries.width};
}

OpPtr make_embed(const EmbedOp& op, Rows out);
OpPtr make_norm(Rows x, const Norm& norm, Rows out);
OpPtr make_norm_linear(const OpContext& context, Rows x, const std::optional<Norm>& norm,
                       const LinearPtr& linear, const std::optional<ActivationTask>& activation,
                       Rows out);
// `out`, and the queries of attention, are two planes: see sink_plane.
OpPtr make_rotary_write(const OpContext& context, Rows qkv, const AttentionOp& attention,
                        const RotaryWriteOp& op, Rows out);
// Packs the blocks that this step has filled, for an attention with far pages.
OpPtr make_pack_blocks(const OpContext& context, const AttentionOp& op);
OpPtr make_attention(const OpContext& context, Rows queries, const AttentionOp& op, Rows out);
OpPtr make_linear_residual(const OpContext& context, Rows x, const LinearPtr& linear,
                           const Residual& residual, Rows out);
OpPtr make_experts_residual(const OpContext& context, Rows x, const std::optional<Norm>& norm,
                            const ExpertsOp& op, const Residual& residual, Rows out);
OpPtr make_logits(const OpContext& context, Rows hidden, const LinearPtr& head, float multiplier,
                  float softcap, Rows out);

}  // namespace vivace
