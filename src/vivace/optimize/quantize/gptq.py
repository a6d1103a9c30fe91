"""GPTQ: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers" (2022), with act-order and static groups.

Columns are rounded one after the other, and each one's error is spread over those that are still
free, so that the outputs change least: the error is measured by the inputs' second moments.
"""

from __future__ import annotations

import numpy as np

from vivace.optimize.quantize.grid import Floats, Grid, Rounded, code_range, to_codes
from vivace.optimize.surgeon import BLOCK, DAMPING, columns_of, inverse_factor, sweep


def gptq(
    weights: Floats,
    gram: Floats,
    grid: Grid,
    act_order: bool = True,
    damping: float = DAMPING,
    block: int = BLOCK,
) -> Rounded:
    """Round a matrix on a given grid.

    Groups are static: the grid is fitted before any column moves. So columns can be rounded in
    the order of their inputs' power (act-order) and still stand in whole groups when stored.

    Args:
        weights: [out, in].
        gram: X'X [in, in] of the inputs X; its scale does not matter.
        act_order: the largest diagonal first, else from left to right.
        damping: added to the diagonal, times its mean.
        block: as in `sweep`.

    Raises:
        ValueError: the inputs are not finite.
    """
    order = np.argsort(-np.diag(gram), kind="stable") if act_order else np.arange(len(gram))
    factor = inverse_factor(gram[np.ix_(order, order)], damping).astype(np.float32)
    scales, zeros = (columns_of(part, order) for part in grid.spread(weights.shape[1]))
    left = columns_of(weights, order)
    codes = np.empty(left.shape, np.int16)
    limits = code_range(grid.scheme)

    def settle(i: int) -> Floats:
        codes[i] = to_codes(left[i], scales[i], zeros[i], limits)
        settled: Floats = (codes[i] - zeros[i]) * scales[i]
        return settled

    sweep(left, factor, settle, block)
    unordered = np.empty_like(codes)
    unordered[order] = codes
    return Rounded(grid, np.ascontiguousarray(unordered.T))


def proxy_loss(weights: Floats, rounded: Rounded, gram: Floats) -> float:
    """tr((W - Q) X'X (W - Q)'): the squared error of the outputs over the inputs X."""
    difference = (weights - rounded.values()).astype(np.float64)
    return float(np.einsum("oi,oi->", difference @ gram, difference))
