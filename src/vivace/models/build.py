"""What families share in turning a config.json into a `ModelSpec`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from vivace.backends.protocol import Activation, AttentionSpec, FarKV, KVSpec, RotarySpec
from vivace.core.errors import CheckpointError
from vivace.formats.kv_format import KV_BLOCK_TOKENS, KVFormat
from vivace.models.config import Config
from vivace.models.rope import rope_parameters, rotary_spec
from vivace.models.spec import ExpertsSpec, LayerSpec, MLPSpec, ModelSpec, NormSpec

_GELU_TANH = Activation("gelu_tanh", gated=True)
_ACTIVATIONS = {
    "silu": Activation("silu", gated=True),
    "swish": Activation("silu", gated=True),
    "gelu": Activation("gelu", gated=True),
    "gelu_new": _GELU_TANH,
    "gelu_pytorch_tanh": _GELU_TANH,
    "relu": Activation("relu", gated=True),
}


def decoder_spec(
    config: Config, layers: Sequence[LayerSpec], rotaries: tuple[RotarySpec, ...] | None = None
) -> ModelSpec:
    """A pre-norm RMSNorm decoder with one rotary table; families replace what differs."""
    grouped, kv_groups = group_layers(layers)
    return ModelSpec(
        family=config.text("model_type"),
        vocab_size=config.integer("vocab_size"),
        hidden_size=config.integer("hidden_size"),
        layers=grouped,
        rotaries=(rotary(config),) if rotaries is None else rotaries,
        kv_groups=kv_groups,
        norm=NormSpec("rms", config.number("rms_norm_eps")),
        max_model_len=config.max_model_len,
        context_len=config.seen_len,
        tied_embeddings=config.flag("tie_word_embeddings"),
    )


def group_layers(
    layers: Sequence[LayerSpec],
) -> tuple[tuple[LayerSpec, ...], tuple[KVSpec, ...]]:
    """Layers of equal KV shape and window share one group."""
    counts: dict[tuple[int, int, int | None], int] = {}
    placed = []
    for layer in layers:
        attention = layer.attention
        key = (attention.num_kv_heads, attention.head_dim, attention.window)
        place = counts.get(key, 0)
        counts[key] = place + 1
        group = list(counts).index(key)
        placed.append(replace(layer, attention=replace(attention, kv_group=group, kv_layer=place)))
    groups = tuple(KVSpec(count, *key) for key, count in counts.items())
    return tuple(placed), groups


def compress_kv(spec: ModelSpec, format: KVFormat) -> ModelSpec:
    """The model with packed KV pages: each group that sees further than a block keeps only a row's
    own block, and a group of packed pages beside it, behind all others, keeps the rest."""
    groups = list(spec.kv_groups)
    far: dict[int, FarKV] = {}
    for index, group in enumerate(spec.kv_groups):
        if group.window is None or group.window > KV_BLOCK_TOKENS:
            far[index] = FarKV(len(groups), format)
            groups.append(replace(group, format=format))
            groups[index] = replace(group, window=1)  # in pages of a block
    layers = tuple(
        replace(layer, attention=replace(layer.attention, far=far.get(layer.attention.kv_group)))
        for layer in spec.layers
    )
    return replace(spec, layers=layers, kv_groups=tuple(groups))


def head_dim(config: Config) -> int:
    given = config.optional_size("head_dim")
    if given is not None:
        return given
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    if hidden < heads:
        raise CheckpointError(
            f"hidden_size {hidden} in config.json is less than num_attention_heads {heads}."
        )
    return hidden // heads


def attention(config: Config, window: int | None = None) -> AttentionSpec:
    """Scaled by head_dim ** -0.5; missing KV heads mean as many as query heads."""
    heads, size = config.integer("num_attention_heads"), head_dim(config)
    kv_heads = config.optional_size("num_key_value_heads") or heads
    if heads % kv_heads:
        raise CheckpointError(
            f"num_attention_heads {heads} in config.json is no multiple of "
            f"num_key_value_heads {kv_heads}."
        )
    return AttentionSpec(heads, kv_heads, size, scale=size**-0.5, window=window)


def activation(config: Config, key: str = "hidden_act") -> Activation:
    """A gated activation, by its name in Transformers."""
    name = config.text(key)
    if name not in _ACTIVATIONS:
        raise CheckpointError(
            f"Activation {name!r} is unknown; known are {', '.join(_ACTIVATIONS)}."
        )
    return _ACTIVATIONS[name]


def dense_mlp(config: Config, bias: bool = False) -> MLPSpec:
    """The usual gated MLP."""
    return MLPSpec(config.integer("intermediate_size"), activation(config), bias)


def rotary(config: Config) -> RotarySpec:
    """One rotary table that turns whole heads."""
    parameters = rope_parameters(config) | {"partial_rotary_factor": 1.0}
    return rotary_spec(config, parameters, head_dim(config))


def num_layers(config: Config) -> int:
    return config.integer("num_hidden_layers")


def windows(config: Config, slides: Callable[[int], bool]) -> list[int | None]:
    """Each layer's window: by `layer_types`, or by `slides(layer)` where there are none."""
    window = config.optional_size("sliding_window")
    kinds = config.optional_list("layer_types")
    if kinds is None:
        return [window if slides(i) else None for i in range(num_layers(config))]
    if len(kinds) != num_layers(config):
        raise CheckpointError(
            f"layer_types in config.json lists {len(kinds)} of {num_layers(config)} layers."
        )
    unknown = [kind for kind in kinds if kind not in ("full_attention", "sliding_attention")]
    if unknown:
        raise CheckpointError(f"Attention {unknown[0]!r} in layer_types is not supported.")
    return [window if kind == "sliding_attention" else None for kind in kinds]


def uniform_layers(
    config: Config, mlp: MLPSpec | ExpertsSpec, window: int | None = None
) -> list[LayerSpec]:
    """Layers that are all alike."""
    return [LayerSpec(attention(config, window), mlp, rotary=0)] * num_layers(config)


def windowed_layers(
    config: Config, mlp: MLPSpec, layer_windows: Sequence[int | None]
) -> list[LayerSpec]:
    """Layers that differ in their window alone."""
    return [LayerSpec(attention(config, window), mlp, rotary=0) for window in layer_windows]
