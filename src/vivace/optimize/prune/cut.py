"""Cutting a decoder smaller: which rows and columns of each weight are left.

What is left computes what the whole model would with everything else at zero. RMSNorm divides by
the mean over fewer channels then, which its gain makes up for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivace.backends.protocol import AttentionSpec
from vivace.formats.qtensor import Array
from vivace.models.build import group_layers
from vivace.models.spec import LayerSpec, MLPSpec, ModelSpec

Places: TypeAlias = NDArray[np.intp]


@dataclass(frozen=True)
class KeptLayer:
    """What is left of one layer.

    Attributes:
        index: of the layer in the whole model.
        kv_heads, heads, neurons: places in it; heads in the order of their KV heads, as many for
            each.
    """

    index: int
    kv_heads: Places
    heads: Places
    neurons: Places


@dataclass(frozen=True)
class Kept:
    """What is left of a model.

    Attributes:
        channels: places in the hidden states, the same in all layers.
    """

    channels: Places
    layers: tuple[KeptLayer, ...]


@dataclass(frozen=True)
class RoleCut:
    """What is left of a role's weights, whose parts stand together.

    Attributes:
        rows: of a matrix [out, in], or places of a vector; None is all.
        columns: of a matrix.
        is_gain: of a norm over the hidden states.
    """

    rows: Places | None = None
    columns: Places | None = None
    is_gain: bool = False


def cut_spec(spec: ModelSpec, kept: Kept) -> ModelSpec:
    """The model that is left."""
    layers = [_cut_layer(spec.layers[layer.index], layer) for layer in kept.layers]
    grouped, kv_groups = group_layers(layers)
    return replace(spec, hidden_size=len(kept.channels), layers=grouped, kv_groups=kv_groups)


def _cut_layer(spec: LayerSpec, kept: KeptLayer) -> LayerSpec:
    heads, kv_heads = len(kept.heads), len(kept.kv_heads)
    attention = replace(spec.attention, num_heads=heads, num_kv_heads=kv_heads)
    mlp = replace(dense(spec), intermediate_size=len(kept.neurons))
    return replace(spec, attention=attention, mlp=mlp)


def dense(layer: LayerSpec) -> MLPSpec:
    assert isinstance(layer.mlp, MLPSpec)  # mixtures of experts were refused
    return layer.mlp


def cut_config(config: Mapping[str, Any], spec: ModelSpec, kept: Kept) -> dict[str, Any]:
    """config.json of the model that is left. Lists that say something of each layer keep what is
    said of those that are left."""
    first, indices = kept.layers[0], [layer.index for layer in kept.layers]
    per_layer = {
        key: [value[i] for i in indices]
        for key, value in config.items()
        if isinstance(value, list) and len(value) == len(spec.layers)
    }
    return {
        **config,
        **per_layer,
        "num_hidden_layers": len(indices),
        "hidden_size": len(kept.channels),
        "intermediate_size": len(first.neurons),
        "num_attention_heads": len(first.heads),
        "num_key_value_heads": len(first.kv_heads),
        "head_dim": spec.layers[0].attention.head_dim,
    }


def role_cuts(spec: ModelSpec, kept: Kept) -> dict[str, RoleCut]:
    """What is left of each role, by its name in the model that is left. Roles without a cut are
    kept whole."""
    channels = kept.channels
    cuts = {role: RoleCut(columns=channels) for role in ("embedding", "positions", "head")}
    cuts["norm"] = RoleCut(rows=channels, is_gain=True)
    for place, layer in enumerate(kept.layers):
        found = _layer_cuts(spec.layers[layer.index], layer, channels)
        cuts |= {f"layers.{place}.{name}": cut for name, cut in found.items()}
    return cuts


def _layer_cuts(spec: LayerSpec, kept: KeptLayer, channels: Places) -> dict[str, RoleCut]:
    attention, mlp = spec.attention, dense(spec)
    queries = _wide(kept.heads, attention.head_dim)
    qkv, halves = _qkv_rows(attention, kept), (0, 1) if mlp.activation.gated else (0,)
    up = np.concatenate([kept.neurons + half * mlp.intermediate_size for half in halves])
    norms = ("attention.norm", "attention.post_norm", "mlp.norm", "mlp.post_norm")
    return {
        **{name: RoleCut(rows=channels, is_gain=True) for name in norms},
        "attention.qkv": RoleCut(qkv, channels),
        "attention.qkv.bias": RoleCut(qkv),
        "attention.out": RoleCut(channels, queries),
        "attention.out.bias": RoleCut(channels),
        "attention.sinks": RoleCut(kept.heads),
        "mlp.up": RoleCut(up, channels),
        "mlp.up.bias": RoleCut(up),
        "mlp.down": RoleCut(channels, kept.neurons),
        "mlp.down.bias": RoleCut(channels),
    }


def _qkv_rows(attention: AttentionSpec, kept: KeptLayer) -> Places:
    size = attention.head_dim
    keys = _wide(attention.num_heads + kept.kv_heads, size)
    values = keys + attention.num_kv_heads * size
    return np.concatenate([_wide(kept.heads, size), keys, values])


def _wide(heads: Places, size: int) -> Places:
    """The places of whole heads."""
    places: Places = (heads[:, None] * size + np.arange(size)).reshape(-1)
    return places


def cut_parts(parts: Sequence[Array], cut: RoleCut) -> list[Array]:
    """What is left of each part of a role, [out_i, in] or [out_i]."""
    bounds = np.cumsum([0, *map(len, parts)])
    found = []
    for part, start, end in zip(parts, bounds, bounds[1:], strict=False):
        if cut.rows is not None:
            part = part[cut.rows[(cut.rows >= start) & (cut.rows < end)] - start]
        found.append(part if cut.columns is None else part[:, cut.columns])
    return found


def regained(gain: Array, spec: ModelSpec) -> Array:
    """A norm's gain [channels left] so that the norm gives what it would with the other channels
    at zero."""
    factor, offset = np.float32(np.sqrt(spec.hidden_size / len(gain))), np.float32(spec.norm.offset)
    if factor == 1:
        return gain
    whole: Array = ((gain.astype(np.float32) + offset) * factor - offset).astype(gain.dtype)
    return whole
