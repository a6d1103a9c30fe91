"""The one forward pass. No model has a forward of its own: families only say what varies."""

from __future__ import annotations

from dataclasses import dataclass

from vivace.backends.protocol import (
    Activation,
    Embedding,
    Experts,
    Linear,
    Norm,
    Ops,
    Residual,
    RotaryTable,
    Tensor,
    Vector,
)
from vivace.models.spec import LayerSpec, ModelSpec


@dataclass(frozen=True)
class AttentionWeights:
    """Handles of one attention block; `qkv` is [q | k | v] along its outputs."""

    norm: Norm | None
    qkv: Linear
    out: Linear
    q_norm: Norm | None = None
    k_norm: Norm | None = None
    post_norm: Norm | None = None
    sinks: Vector | None = None
    rotary: RotaryTable | None = None


@dataclass(frozen=True)
class DenseWeights:
    """Handles of one dense MLP; `up` is [gate | up] where the activation is gated."""

    up: Linear
    down: Linear
    activation: Activation


@dataclass(frozen=True)
class MLPWeights:
    """Handles of one MLP block."""

    norm: Norm | None
    body: DenseWeights | Experts
    post_norm: Norm | None = None


@dataclass(frozen=True)
class LayerWeights:
    attention: AttentionWeights
    mlp: MLPWeights


@dataclass(frozen=True)
class DecoderWeights:
    """A backend's handles for a whole model."""

    embedding: Embedding
    layers: tuple[LayerWeights, ...]
    norm: Norm
    head: Linear
    positions: Embedding | None = None


@dataclass(frozen=True)
class Decoder:
    """A model on a backend: what it is, and its weights there."""

    spec: ModelSpec
    weights: DecoderWeights

    def hidden(self, ops: Ops) -> Tensor:
        """The normed hidden states [T, hidden_size]."""
        spec, weights = self.spec, self.weights
        x = ops.embed(weights.embedding, spec.embedding_multiplier, weights.positions)
        for layer_spec, layer in zip(spec.layers, weights.layers, strict=True):
            x = attend(ops, layer_spec, layer.attention, x, spec.residual_multiplier)
            x = transform(ops, layer.mlp, x, spec.residual_multiplier)
        return ops.norm(x, weights.norm)

    def logits(self, ops: Ops) -> Tensor:
        """float32 logits [R, vocab_size] of the batch's logit rows."""
        spec = self.spec
        return ops.logits(
            self.hidden(ops), self.weights.head, spec.logits_multiplier, spec.logits_softcap
        )


def attend(
    ops: Ops, spec: LayerSpec, weights: AttentionWeights, x: Tensor, multiplier: float
) -> Tensor:
    """The first half of a layer."""
    qkv = ops.norm_linear(x, weights.norm, weights.qkv)
    queries = ops.rotary_write(qkv, spec.attention, weights.rotary, weights.q_norm, weights.k_norm)
    attended = ops.attention(queries, spec.attention, weights.sinks)
    return ops.linear_residual(attended, weights.out, Residual(x, weights.post_norm, multiplier))


def transform(ops: Ops, weights: MLPWeights, x: Tensor, multiplier: float) -> Tensor:
    """The second half of a layer."""
    residual = Residual(x, weights.post_norm, multiplier)
    body = weights.body
    if isinstance(body, Experts):
        return ops.experts_residual(x, weights.norm, body, residual)
    inner = ops.norm_linear(x, weights.norm, body.up, body.activation)
    return ops.linear_residual(inner, body.down, residual)
