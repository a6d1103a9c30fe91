"""SmolLM 3: every fourth layer has no rotary positions, and may have a window."""

from __future__ import annotations

from dataclasses import replace

from vivace.core.errors import CheckpointError
from vivace.models.build import decoder_spec, dense_mlp, num_layers, windowed_layers, windows
from vivace.models.config import Config
from vivace.models.family import Family
from vivace.models.spec import ModelSpec


def spec(config: Config) -> ModelSpec:
    bias = config.flag("attention_bias")
    turns = rotary_layers(config)
    if not config.flag("use_sliding_window"):
        config = replace(config, values={**config.values, "sliding_window": None})
    mlp = dense_mlp(config, config.flag("mlp_bias"))
    layers = [
        replace(layer, rotary=0 if turn else None)
        for layer, turn in zip(
            windowed_layers(config, mlp, windows(config, lambda layer: not turns[layer])),
            turns,
            strict=True,
        )
    ]
    return replace(decoder_spec(config, layers), qkv_bias=bias, output_bias=bias)


def rotary_layers(config: Config) -> list[bool]:
    """`no_rope_layers` holds 1 where a layer does have rotary positions."""
    count = num_layers(config)
    given = config.optional_list("no_rope_layers")
    if given is None:
        interval = config.integer("no_rope_layer_interval")
        return [(layer + 1) % interval != 0 for layer in range(count)]
    if len(given) < count:
        raise CheckpointError(f"no_rope_layers in config.json lists {len(given)} of {count}.")
    return [bool(turn) for turn in given[:count]]


FAMILY = Family(
    spec,
    defaults={
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "no_rope_layer_interval": 4,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-6,
        "rope_theta": 2000000.0,
        "tie_word_embeddings": True,
    },
)
