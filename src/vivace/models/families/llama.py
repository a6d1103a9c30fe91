"""Llama 1 to 3.x, and the many models in its shape."""

from __future__ import annotations

from dataclasses import replace

from vivace.models.build import decoder_spec, dense_mlp, uniform_layers
from vivace.models.config import Config
from vivace.models.family import Family
from vivace.models.spec import ModelSpec


def spec(config: Config) -> ModelSpec:
    bias = config.flag("attention_bias")
    mlp = dense_mlp(config, config.flag("mlp_bias"))
    decoder = decoder_spec(config, uniform_layers(config, mlp))
    return replace(decoder, qkv_bias=bias, output_bias=bias)


FAMILY = Family(
    spec,
    defaults={
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
    },
)
