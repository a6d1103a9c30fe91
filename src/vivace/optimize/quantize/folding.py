"""Moving the size of a linear's inputs into its weights, and out of where the inputs come from.

Every fold leaves what the layer computes unchanged. Where the inputs come from a norm, its gain is
stored in few digits: the gain is rounded first, and the weights take exactly what it lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vivace.backends.protocol import Activation
from vivace.optimize.layer import WorkingLayer
from vivace.optimize.observe import Floats


@dataclass(frozen=True)
class Fold:
    """Attributes:
    linear: whose inputs are scaled.
    source: the norm they come from, or the linear, of which they are `rows` from the last on.
    """

    linear: str
    source: str
    rows: int | None = None

    @property
    def into_norm(self) -> bool:
        return self.rows is None


def norm_folds(layer: WorkingLayer) -> list[Fold]:
    """Linears that read a norm alone."""
    pairs = (("attention.qkv", "attention.norm"), ("mlp.up", "mlp.norm"))
    return [Fold(linear, norm) for linear, norm in pairs if layer.has(norm)]


def all_folds(layer: WorkingLayer) -> list[Fold]:
    """In the order of the forward. Values go to the output projection as they are only where each
    query head has its own, and a gate's other half only where nothing bends it."""
    attention = layer.spec.layers[layer.index].attention
    folds = {fold.linear: fold for fold in norm_folds(layer)}
    if attention.num_kv_heads == attention.num_heads:
        width = attention.num_heads * attention.head_dim
        folds["attention.out"] = Fold("attention.out", "attention.qkv", width)
    if _is_linear_in_up(layer.mlp.activation):
        folds["mlp.down"] = Fold("mlp.down", "mlp.up", layer.mlp.intermediate_size)
    order = ("attention.qkv", "attention.out", "mlp.up", "mlp.down")
    return [folds[linear] for linear in order if linear in folds]


def fold(layer: WorkingLayer, how: Fold, scales: Floats) -> None:
    """Divide a linear's inputs by `scales` [in], and multiply its weights by them."""
    if how.into_norm:
        scales = _divide_norm(layer, how.source, scales)
    else:
        assert how.rows is not None
        for name in (how.source, f"{how.source}.bias"):
            if layer.has(name):
                layer.replace(name, _divided_rows(layer.weights(name), how.rows, scales))
    layer.replace(how.linear, layer.weights(how.linear) * scales)


def _divide_norm(layer: WorkingLayer, name: str, scales: Floats) -> Floats:
    """Returns what the stored gain was divided by in truth."""
    offset = np.float32(layer.spec.norm.offset)
    (source,) = layer.plan[layer.role(name)]
    dtype = layer.tensors.tensors.get(source.name).buffers["weight"].dtype
    gain = layer.weights(name) + offset
    kept = (gain / scales - offset).astype(dtype).astype(np.float32)
    divisors = np.divide(gain, kept + offset, out=np.ones_like(gain), where=kept + offset != 0)
    layer.replace(name, kept)
    if layer.has(f"{name}.bias"):
        layer.replace(f"{name}.bias", layer.weights(f"{name}.bias") / divisors)
    exact: Floats = divisors
    return exact


def _divided_rows(weights: Floats, count: int, scales: Floats) -> Floats:
    """The last `count` rows of a matrix or a vector, each divided."""
    by_row = scales if weights.ndim == 1 else scales[:, None]
    return np.concatenate([weights[:-count], weights[-count:] / by_row])


def _is_linear_in_up(activation: Activation) -> bool:
    return activation.gated and activation.kind != "swiglu_clamped"
