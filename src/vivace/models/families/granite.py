"""Granite 3: Llama with multipliers of embeddings, attention, residuals and logits."""

from __future__ import annotations

from dataclasses import replace

from vivace.models.build import attention, decoder_spec, dense_mlp, num_layers
from vivace.models.config import Config
from vivace.models.family import Family
from vivace.models.spec import LayerSpec, ModelSpec


def spec(config: Config) -> ModelSpec:
    bias = config.flag("attention_bias")
    attends = replace(attention(config), scale=config.number("attention_multiplier"))
    layer = LayerSpec(attends, dense_mlp(config, config.flag("mlp_bias")), rotary=0)
    return replace(
        decoder_spec(config, [layer] * num_layers(config)),
        qkv_bias=bias,
        output_bias=bias,
        embedding_multiplier=config.number("embedding_multiplier"),
        residual_multiplier=config.number("residual_multiplier"),
        logits_multiplier=1 / config.number("logits_scaling"),
    )


FAMILY = Family(
    spec,
    defaults={
        "attention_multiplier": 1.0,
        "embedding_multiplier": 1.0,
        "hidden_act": "silu",
        "logits_scaling": 1.0,
        "max_position_embeddings": 2048,
        "residual_multiplier": 1.0,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
    },
)
