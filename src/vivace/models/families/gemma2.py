"""Gemma 2: soft-caps, windows in every other layer, norms before and after each block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vivace.core.errors import CheckpointError
from vivace.models.build import activation, attention, decoder_spec, windows
from vivace.models.config import Config
from vivace.models.family import Family
from vivace.models.spec import LayerSpec, MLPSpec, ModelSpec
from vivace.models.weights import Layout

LAYOUT = Layout(mlp_norm="pre_feedforward_layernorm")
DEFAULTS = {
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_attention_heads": 8,
    "num_hidden_layers": 26,
    "num_key_value_heads": 4,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-6,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
}


def gemma_layers(config: Config, layer_windows: Sequence[int | None]) -> list[LayerSpec]:
    """Layers scaled by `query_pre_attn_scalar`, without soft-caps."""
    if config.flag("use_bidirectional_attention"):
        raise CheckpointError("use_bidirectional_attention in config.json is not supported.")
    scale = config.number("query_pre_attn_scalar") ** -0.5
    mlp = MLPSpec(config.integer("intermediate_size"), activation(config, "hidden_activation"))
    return [
        LayerSpec(replace(attention(config, window), scale=scale), mlp, rotary=0)
        for window in layer_windows
    ]


def gemma_decoder(config: Config, decoder: ModelSpec) -> ModelSpec:
    """What Gemma 2 and 3 share. Gains are stored less 1; embeddings are scaled to unit norm."""
    bias = config.flag("attention_bias")
    return replace(
        decoder,
        norm=replace(decoder.norm, offset=1.0),
        post_norms=True,
        qkv_bias=bias,
        output_bias=bias,
        embedding_multiplier=decoder.hidden_size**0.5,
        logits_softcap=config.optional_number("final_logit_softcapping"),
    )


def spec(config: Config) -> ModelSpec:
    softcap = config.optional_number("attn_logit_softcapping")
    layers = [
        replace(layer, attention=replace(layer.attention, softcap=softcap))
        for layer in gemma_layers(config, windows(config, lambda layer: layer % 2 == 0))
    ]
    return gemma_decoder(config, decoder_spec(config, layers))


FAMILY = Family(
    spec,
    LAYOUT,
    defaults={
        **DEFAULTS,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "max_position_embeddings": 8192,
        "rope_theta": 10000.0,
        "vocab_size": 256000,
    },
)
