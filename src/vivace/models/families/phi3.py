"""Phi 3 and 4: fused projections, rotary on a part of each head, LongRoPE."""

from __future__ import annotations

from vivace.models.build import decoder_spec, dense_mlp, head_dim, uniform_layers
from vivace.models.config import Config
from vivace.models.family import Family
from vivace.models.rope import rope_parameters, rotary_spec
from vivace.models.spec import ModelSpec
from vivace.models.weights import Layout

LONGROPE_NAMES = ("su", "yarn")  # what early Phi-3 checkpoints call it


def spec(config: Config) -> ModelSpec:
    parameters = rope_parameters(config)
    kind = parameters.get("rope_type") or parameters.get("type")
    if kind in LONGROPE_NAMES:
        parameters["rope_type"] = "longrope"
    rotary = rotary_spec(config, parameters, head_dim(config))
    window = config.optional_size("sliding_window")
    layers = uniform_layers(config, dense_mlp(config), window)
    return decoder_spec(config, layers, (rotary,))


FAMILY = Family(
    spec,
    Layout(qkv=("self_attn.qkv_proj",), up=("mlp.gate_up_proj",)),
    defaults={
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "original_max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
    },
)
