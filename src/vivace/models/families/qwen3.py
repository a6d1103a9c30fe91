"""Qwen 3: Qwen 2 with a norm on each head's queries and keys."""

from __future__ import annotations

from dataclasses import replace

from vivace.models.build import decoder_spec, dense_mlp, windowed_layers
from vivace.models.config import Config
from vivace.models.families import qwen2
from vivace.models.family import Family
from vivace.models.spec import ModelSpec


def spec(config: Config) -> ModelSpec:
    bias = config.flag("attention_bias")
    layers = windowed_layers(config, dense_mlp(config), qwen2.layer_windows(config))
    decoder = decoder_spec(config, layers)
    return replace(decoder, qk_norm="head", qkv_bias=bias, output_bias=bias)


FAMILY = Family(spec, defaults={**qwen2.DEFAULTS, "head_dim": 128})
