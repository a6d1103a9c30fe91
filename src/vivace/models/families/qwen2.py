"""Qwen 2 and 2.5: biases on queries, keys and values; windows in the upper layers at choice."""

from __future__ import annotations

from dataclasses import replace

from vivace.models.build import decoder_spec, dense_mlp, windowed_layers, windows
from vivace.models.config import Config
from vivace.models.family import Family
from vivace.models.spec import ModelSpec

DEFAULTS = {
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
}


def layer_windows(config: Config) -> list[int | None]:
    """`max_window_layers` counts the lower layers, which see everything."""
    if not config.flag("use_sliding_window"):
        config = replace(config, values={**config.values, "sliding_window": None})
    lower = config.optional_integer("max_window_layers") or 0
    return windows(config, lambda layer: layer >= lower)


def spec(config: Config) -> ModelSpec:
    layers = windowed_layers(config, dense_mlp(config), layer_windows(config))
    return replace(decoder_spec(config, layers), qkv_bias=True)


FAMILY = Family(spec, defaults=DEFAULTS)
