"""AWQ: Lin et al., "AWQ: Activation-aware Weight Quantization for LLM Compression and
Acceleration" (2023).

Inputs that are large on average get larger weights and the inverse factor where they come from:
what matters is rounded more finely. How far to go is searched by the error of a block's output.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vivace.formats.qtensor import Scheme
from vivace.optimize.quantize.grid import Floats, Grid, fit, grouped

POINTS = 20  # exponents tried: 0, 1/20 to 19/20
LEAST = np.float32(1e-4)
SHRINKAGES = tuple(1 - step / 20 for step in range(11))  # of a group's range: 1 down to 0.5


def scales_of(abs_mean: Floats, exponent: float) -> Floats:
    """[in]: mean |x| ** exponent, its largest and least value 1 apart from 1 by the same factor."""
    scales = np.maximum(abs_mean, LEAST) ** np.float32(exponent)
    result: Floats = np.maximum(scales / np.sqrt(scales.max() * scales.min()), LEAST)
    return result


def search_scales(abs_mean: Floats, loss: Callable[[Floats], float]) -> tuple[Floats, float]:
    """The scales of the least loss, and its exponent. Exponent 0 (no scaling) is one of those
    tried, so the result is never worse than that."""
    tried = [step / POINTS for step in range(POINTS)]
    losses = [loss(scales_of(abs_mean, exponent)) for exponent in tried]
    best = tried[int(np.argmin(losses))]
    return scales_of(abs_mean, best), best


def search_clip(weights: Floats, gram: Floats, scheme: Scheme) -> Grid:
    """The grid of those that shrink each group's range by up to a half whose error in the group's
    output is least: (w - q) X'X (w - q)' over the group's own inputs.

    Args:
        gram: X'X [in, in] of the inputs.
    """
    size = scheme.group_size or weights.shape[1]
    blocks = np.stack([gram[i : i + size, i : i + size] for i in range(0, len(gram), size)])
    full = np.abs(grouped(weights, scheme.group_size)).max(axis=2)
    grids = [fit(weights, scheme, np.float32(share) * full) for share in SHRINKAGES]
    errors = np.stack([_output_errors(weights, grid, blocks) for grid in grids])
    best = errors.argmin(axis=0)[None]
    scales = np.take_along_axis(np.stack([grid.scales for grid in grids]), best, 0)[0]
    zeros = np.take_along_axis(np.stack([grid.zeros for grid in grids]), best, 0)[0]
    return Grid(scheme, scales, zeros)


def _output_errors(weights: Floats, grid: Grid, blocks: Floats) -> Floats:
    """[out, groups]."""
    errors = grouped(weights - grid.round(weights).values(), grid.group_size)
    by_group = errors.swapaxes(0, 1)  # [groups, out, size]: one matrix product each
    result: Floats = ((by_group @ blocks) * by_group).sum(axis=2).T
    return result
