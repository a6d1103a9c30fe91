"""GPT-2: LayerNorm, learned positions, biases, weights stored [in, out]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vivace.core.errors import CheckpointError
from vivace.models.build import activation, attention, decoder_spec, num_layers
from vivace.models.config import Config
from vivace.models.family import Family
from vivace.models.spec import LayerSpec, MLPSpec, ModelSpec, NormSpec
from vivace.models.weights import Layout, Root

USUAL_KEYS = {
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_layer": "num_hidden_layers",
    "n_positions": "max_position_embeddings",
    "layer_norm_epsilon": "rms_norm_eps",
    "activation_function": "hidden_act",
}


def usual_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    return {USUAL_KEYS.get(key, key): value for key, value in config.items()}


def spec(config: Config) -> ModelSpec:
    if config.flag("add_cross_attention"):
        raise CheckpointError("add_cross_attention in config.json is not supported.")
    positions = config.integer("max_position_embeddings")
    config.check_length(config.max_model_len, positions)
    inner = config.optional_size("n_inner") or 4 * config.integer("hidden_size")
    mlp = MLPSpec(inner, replace(activation(config), gated=False), bias=True)
    attends = attention(config)
    layers = [
        LayerSpec(replace(attends, scale=_scale(config, i, attends.scale)), mlp, rotary=None)
        for i in range(num_layers(config))
    ]
    return replace(
        decoder_spec(config, layers, rotaries=()),
        norm=NormSpec("layer", config.number("rms_norm_eps"), bias=True),
        qkv_bias=True,
        output_bias=True,
        learned_positions=positions,
    )


def _scale(config: Config, layer: int, usual: float) -> float:
    scale = usual if config.flag("scale_attn_weights") else 1.0
    return scale / (layer + 1) if config.flag("scale_attn_by_inverse_layer_idx") else scale


FAMILY = Family(
    spec,
    Layout(
        roots=(Root("transformer.", "lm_head"), Root("", "lm_head")),
        embedding="wte",
        positions="wpe",
        norm="ln_f",
        layer="h.{}.",
        attention_norm="ln_1",
        qkv=("attn.c_attn",),
        out="attn.c_proj",
        mlp_norm="ln_2",
        up=("mlp.c_fc",),
        down="mlp.c_proj",
        transposed=True,
    ),
    defaults={
        "hidden_act": "gelu_new",
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5,
        "scale_attn_weights": True,
        "tie_word_embeddings": True,
    },
    normalize=usual_keys,
)
