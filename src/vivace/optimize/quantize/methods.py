"""The methods there are: what each does to a layer before its weights are rounded, and how it
rounds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from vivace.core.errors import UsageError
from vivace.formats.qtensor import Scheme
from vivace.formats.schemes import plane_of
from vivace.optimize.layer import LINEARS, WorkingLayer
from vivace.optimize.observe import Floats, Statistics
from vivace.optimize.quantize.awq import search_clip, search_scales
from vivace.optimize.quantize.folding import Fold, all_folds, fold, norm_folds
from vivace.optimize.quantize.gptq import gptq
from vivace.optimize.quantize.grid import Grid, Rounded, fit
from vivace.optimize.quantize.hqq import hqq
from vivace.optimize.quantize.rtn import rtn
from vivace.optimize.quantize.smoothquant import smooth_scales
from vivace.optimize.quantize.stored import store

SEARCH_CHUNKS = 4  # of calibration text, that a search by a block's output looks at

Schemes = Mapping[str, Scheme]  # of the linears of a layer; those without one stay as they are
Rounding: TypeAlias = Callable[[WorkingLayer, str, Scheme, Statistics | None], Rounded]


@dataclass(frozen=True)
class Method:
    """Attributes:
    prepare: changes a layer's floats, not what it computes.
    round: one linear; None where they are rounded `together`.
    rounds_by_inputs: whether `round` is told what goes into each linear.
    together: all linears of a layer.
    """

    round: Rounding | None
    prepare: Callable[[WorkingLayer, Schemes], None] | None = None
    rounds_by_inputs: bool = False
    together: Callable[[WorkingLayer, Schemes], None] | None = None

    @property
    def reads_text(self) -> bool:
        return self.rounds_by_inputs or self.prepare is not None or self.together is not None


def quantize_layer(layer: WorkingLayer, method: Method, schemes: Schemes) -> None:
    """Round the linears of a layer in the order of the forward, each with inputs that come from
    everything rounded before it."""
    if method.prepare is not None:
        method.prepare(layer, schemes)
    if method.together is not None:
        method.together(layer, schemes)
    for name in LINEARS:
        if name in schemes and method.round is not None:
            seen = layer.statistics(name) if method.rounds_by_inputs else None
            _round_linear(layer, name, schemes[name], method.round, seen)


def _round_linear(
    layer: WorkingLayer, name: str, scheme: Scheme, rounding: Rounding, seen: Statistics | None
) -> None:
    """Nested: twice, first the weights and then what that lacks. So the model in 4 bits is the
    one that the method makes of them alone."""
    plane = plane_of(scheme)
    rounded = rounding(layer, name, plane, seen)
    finer = None
    if scheme.planes > 1:
        layer.replace(name, layer.weights(name) - rounded.values())
        finer = rounding(layer, name, plane, seen)
    store(layer, name, rounded, finer)


def _nearest(layer: WorkingLayer, name: str, scheme: Scheme, seen: Statistics | None) -> Rounded:
    return rtn(layer.weights(name), scheme)


def _without_data(
    layer: WorkingLayer, name: str, scheme: Scheme, seen: Statistics | None
) -> Rounded:
    return hqq(layer.weights(name), scheme)


def _gptq(layer: WorkingLayer, name: str, scheme: Scheme, seen: Statistics | None) -> Rounded:
    assert seen is not None
    weights = layer.weights(name)
    return gptq(weights, seen.gram, fit(weights, scheme))


def _clipped(layer: WorkingLayer, name: str, scheme: Scheme, seen: Statistics | None) -> Rounded:
    assert seen is not None
    weights = layer.weights(name)
    return _clipped_grid(layer, name, weights, seen, scheme).round(weights)


def _gptq_clipped(
    layer: WorkingLayer, name: str, scheme: Scheme, seen: Statistics | None
) -> Rounded:
    assert seen is not None
    weights = layer.weights(name)
    return gptq(weights, seen.gram, _clipped_grid(layer, name, weights, seen, scheme))


def _clipped_grid(
    layer: WorkingLayer, name: str, weights: Floats, seen: Statistics, scheme: Scheme
) -> Grid:
    """Queries and keys keep their range: what they lose shows only after a softmax."""
    grid = search_clip(weights, seen.gram, scheme)
    if name != "attention.qkv":
        return grid
    attention = layer.spec.layers[layer.index].attention
    kept = (attention.num_heads + attention.num_kv_heads) * attention.head_dim
    full = fit(weights[:kept], scheme)
    scales, zeros = (
        np.concatenate(pair)
        for pair in ((full.scales, grid.scales[kept:]), (full.zeros, grid.zeros[kept:]))
    )
    return Grid(scheme, scales, zeros)


def _awq(layer: WorkingLayer, schemes: Schemes) -> None:
    for each in all_folds(layer):
        if each.linear in schemes:
            abs_mean = layer.statistics(each.linear).abs_mean
            loss = _block_loss(layer, each, schemes[each.linear])
            fold(layer, each, search_scales(abs_mean, loss)[0])


def _block_loss(layer: WorkingLayer, each: Fold, scheme: Scheme) -> Callable[[Floats], float]:
    """The mean squared error of the block's output where only this linear is rounded, after
    scaling."""
    weights = layer.weights(each.linear)
    expected = list(layer.block_outputs(each.linear, SEARCH_CHUNKS))

    def loss(scales: Floats) -> float:
        layer.replace(each.linear, rtn(weights * scales, scheme).values() / scales)
        outputs = layer.block_outputs(each.linear, SEARCH_CHUNKS)
        errors = [np.square(y - e).mean() for y, e in zip(outputs, expected, strict=True)]
        layer.replace(each.linear, weights)
        return float(np.mean(errors))

    return loss


def _sign_round(layer: WorkingLayer, schemes: Schemes) -> None:
    try:
        from vivace.optimize.quantize.signround import sign_round
    except ImportError as error:
        raise UsageError(
            "Method signround needs PyTorch; install it with: pip install 'vivace[torch]'."
        ) from error
    sign_round(layer, schemes)


def _smooth(layer: WorkingLayer, schemes: Schemes) -> None:
    for each in norm_folds(layer):
        if each.linear in schemes:
            x_max = layer.statistics(each.linear).abs_max
            w_max = np.abs(layer.weights(each.linear)).max(axis=0)
            fold(layer, each, smooth_scales(x_max, w_max))


METHODS: dict[str, Method] = {
    "rtn": Method(_nearest),
    "hqq": Method(_without_data),
    "gptq": Method(_gptq_clipped, rounds_by_inputs=True),
    "awq": Method(_clipped, _awq, rounds_by_inputs=True),
    "awq-gptq": Method(_gptq_clipped, _awq, rounds_by_inputs=True),
    "signround": Method(None, together=_sign_round),
    "smoothquant": Method(_nearest, _smooth),
    "smoothquant-gptq": Method(_gptq, _smooth, rounds_by_inputs=True),
}


def method_named(name: str) -> Method:
    """Raises UsageError: there is no such method."""
    if name not in METHODS:
        raise UsageError(f"There is no method {name!r}; choose among {', '.join(METHODS)}.")
    return METHODS[name]
