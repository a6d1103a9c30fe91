"""OLMo 2: norms after each block only, and over all heads of queries and keys at once."""

from __future__ import annotations

from dataclasses import replace

from vivace.models.build import decoder_spec, dense_mlp, uniform_layers
from vivace.models.config import Config
from vivace.models.family import Family
from vivace.models.spec import ModelSpec


def spec(config: Config) -> ModelSpec:
    bias = config.flag("attention_bias")
    return replace(
        decoder_spec(config, uniform_layers(config, dense_mlp(config))),
        pre_norms=False,
        post_norms=True,
        qk_norm="full",
        qkv_bias=bias,
        output_bias=bias,
    )


FAMILY = Family(
    spec,
    defaults={
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
    },
)
