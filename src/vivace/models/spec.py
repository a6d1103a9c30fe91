"""All that a decoder-only transformer can vary in, as frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vivace.backends.protocol import Activation, AttentionSpec, KVSpec, RotarySpec

QKNorm = Literal["none", "head", "full"]


@dataclass(frozen=True)
class NormSpec:
    """Attributes:
    kind: RMSNorm or LayerNorm.
    offset: added to the stored gain at load (Gemma stores gain - 1).
    bias: LayerNorm with a bias.
    """

    kind: Literal["rms", "layer"]
    eps: float
    offset: float = 0.0
    bias: bool = False


@dataclass(frozen=True)
class MLPSpec:
    """A dense MLP: down(activation(up(x))); a gated activation has [gate | up] as its first."""

    intermediate_size: int
    activation: Activation
    bias: bool = False


@dataclass(frozen=True)
class ExpertsSpec:
    """A mixture of expert MLPs; see `protocol.Experts` for the routing."""

    num_experts: int
    top_k: int
    intermediate_size: int
    activation: Activation
    renormalize: bool
    bias: bool = False
    router_bias: bool = False


@dataclass(frozen=True)
class LayerSpec:
    """One decoder layer.

    Attributes:
        rotary: index into `ModelSpec.rotaries`, or None for a layer without rotary positions.
        sinks: whether each head has a learned attention sink.
    """

    attention: AttentionSpec
    mlp: MLPSpec | ExpertsSpec
    rotary: int | None
    sinks: bool = False


@dataclass(frozen=True)
class ModelSpec:
    """A decoder-only transformer.

    Attributes:
        family: the checkpoint's `model_type`.
        pre_norms: norms before attention and MLP.
        post_norms: norms on the outputs of attention and MLP, before the residual.
        qk_norm: norm of queries and keys: none, per head, or over all heads at once.
        learned_positions: rows of a learned position table, or None.
        embedding_multiplier: factor of the token embedding.
        residual_multiplier: factor of each block's output.
        logits_multiplier: factor of the logits, before `logits_softcap`.
        max_model_len: the longest sequence it is loaded for.
        context_len: the most positions that a row may see.
    """

    family: str
    vocab_size: int
    hidden_size: int
    layers: tuple[LayerSpec, ...]
    rotaries: tuple[RotarySpec, ...]
    kv_groups: tuple[KVSpec, ...]
    norm: NormSpec
    max_model_len: int
    context_len: int
    pre_norms: bool = True
    post_norms: bool = False
    qk_norm: QKNorm = "none"
    qkv_bias: bool = False
    output_bias: bool = False
    tied_embeddings: bool = False
    learned_positions: int | None = None
    embedding_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_multiplier: float = 1.0
    logits_softcap: float | None = None
