"""Gemma 3: five window layers to a full one, each kind with rotary settings of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vivace.backends.protocol import RotarySpec
from vivace.models.build import decoder_spec, head_dim, windows
from vivace.models.config import Config
from vivace.models.families import gemma2
from vivace.models.family import Family
from vivace.models.rope import rotary_spec
from vivace.models.spec import ModelSpec

DEFAULTS = {
    **gemma2.DEFAULTS,
    "max_position_embeddings": 131072,
    "rope_local_base_freq": 10000.0,
    "rope_theta": 1000000.0,
    "sliding_window_pattern": 6,
    "vocab_size": 262208,
}


def spec(config: Config) -> ModelSpec:
    pattern = config.integer("sliding_window_pattern")
    full = windows(config, lambda layer: (layer + 1) % pattern != 0)
    layers = [
        replace(layer, rotary=0 if window is None else 1)
        for layer, window in zip(gemma2.gemma_layers(config, full), full, strict=True)
    ]
    decoder = decoder_spec(config, layers, rotaries(config))
    return replace(gemma2.gemma_decoder(config, decoder), qk_norm="head")


def rotaries(config: Config) -> tuple[RotarySpec, RotarySpec]:
    """Of full and of window layers. The old style scales the full ones alone."""
    nested = replace(config, values=config.mapping("rope_parameters"))
    old_scaling = dict(config.mapping("rope_scaling"))
    full: dict[str, Any] = {
        "rope_theta": config.number("rope_theta"),
        **nested.mapping("full_attention"),
        **old_scaling,
    }
    local: dict[str, Any] = {
        "rope_theta": config.number("rope_local_base_freq"),
        **nested.mapping("sliding_attention"),
    }
    size = head_dim(config)
    return rotary_spec(config, full, size), rotary_spec(config, local, size)


FAMILY = Family(spec, gemma2.LAYOUT, DEFAULTS)
