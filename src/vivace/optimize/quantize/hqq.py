"""HQQ: Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models" (2023).

Without any data, it finds the grid at which the rounding errors of a group are sparse: their sum of
|error| ** P, with P below 1, takes a few large errors for many small ones. Half-quadratic
splitting alternates between the sparse errors (a shrinkage) and the grid (in closed form).

Zero points are whole numbers here, as the stored formats have them. The closed form would move
them by less than half a step and so never at all; instead the scale is solved for, from each of the
neighbouring zero points, and the best of them is kept. Symmetric groups solve for the scale alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from vivace.formats.qtensor import Scheme
from vivace.optimize.quantize.grid import (
    Floats,
    Grid,
    Rounded,
    code_range,
    fit,
    grouped,
    stored_scales,
)

P = 0.7
BETA, GROWTH = 10.0, 1.01
ITERATIONS = 20


def hqq(weights: Floats, scheme: Scheme) -> Rounded:
    """Round on the best grid met; never worse than rounding to nearest in `objective`."""
    start = fit(weights, scheme)
    best, least = start, objective(weights, start)
    for shift in (0, -1, 1) if scheme.zero_points else (0,):
        zeros = np.clip(start.zeros + np.float32(shift), *code_range(scheme))
        for grid in _descent(weights, replace(start, zeros=zeros)):
            errors = objective(weights, grid)
            better = errors < least
            least = np.where(better, errors, least)
            best = replace(
                best,
                scales=np.where(better, grid.scales, best.scales),
                zeros=np.where(better, grid.zeros, best.zeros),
            )
    return best.round(weights)


def _descent(weights: Floats, grid: Grid) -> Iterator[Grid]:
    """The start, and what each turn makes of it, until no scale moves any more."""
    beta = BETA
    for _ in range(ITERATIONS):
        yield grid
        moved = _moved(weights, grid, beta)
        if np.array_equal(moved.scales, grid.scales):
            return
        grid, beta = moved, beta * GROWTH


def objective(weights: Floats, grid: Grid) -> Floats:
    """Each group's sum of |rounding error| ** P: [out, groups]."""
    errors = np.abs(weights - grid.round(weights).values()) ** np.float32(P)
    total: Floats = grouped(errors, grid.group_size).sum(axis=2)
    return total


def shrink(errors: Floats, beta: float) -> Floats:
    """The minimum over e of |e| ** P + beta / 2 * (e - errors) ** 2, near enough: the generalized
    soft threshold. Errors are in units of their group's scale."""
    sizes = np.abs(errors)
    powers = np.power(sizes, P - 1, out=np.zeros_like(sizes), where=sizes > 0)
    result: Floats = np.sign(errors) * np.maximum(sizes - powers / np.float32(beta), 0)
    return result


def _moved(weights: Floats, grid: Grid, beta: float) -> Grid:
    """One turn: the sparse part of the errors, then the scales that fit the rest of the weights
    best, at the codes as they are."""
    scheme, size = grid.scheme, grid.group_size
    rounded = grid.round(weights)
    scales: Floats = np.where(grid.scales > 0, grid.scales, 1).astype(np.float32)[..., None]
    errors: Floats = grouped(weights - rounded.values(), size) / scales
    target = grouped(weights, size) / scales - shrink(errors, beta)
    steps = grouped(rounded.codes.astype(np.float32), size) - grid.zeros[..., None]
    power = np.square(steps).sum(axis=2)
    along = (steps * target).sum(axis=2)
    factor = np.divide(along, power, out=np.ones_like(power), where=(power > 0) & (along > 0))
    return replace(grid, scales=stored_scales(grid.scales * factor, scheme))
