"""Mistral 7B and its successors in the same shape."""

from __future__ import annotations

from vivace.models.build import decoder_spec, dense_mlp, uniform_layers
from vivace.models.config import Config
from vivace.models.family import Family
from vivace.models.spec import ModelSpec


def spec(config: Config) -> ModelSpec:
    window = config.optional_size("sliding_window")
    return decoder_spec(config, uniform_layers(config, dense_mlp(config), window))


FAMILY = Family(
    spec,
    defaults={
        "hidden_act": "silu",
        "max_position_embeddings": 131072,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
    },
)
