"""GPTQ: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers" (2022), with act-order and static groups.

Columns are rounded one after the other, and each one's error is spread over those that are still
free, so that the outputs change least: the error is measured by the inputs' second moments.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivace.optimize.quantize.grid import Floats, Grid, Rounded, code_range, to_codes

Doubles: TypeAlias = NDArray[np.float64]

BLOCK = 128
DAMPING = 0.01


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
        block: columns whose updates to the columns behind them are put together (the same result
            but for float rounding, at the speed of matrix products).

    Raises:
        ValueError: the inputs are not finite.
    """
    if not np.isfinite(gram).all():
        raise ValueError("The calibration inputs are not finite.")
    order = np.argsort(-np.diag(gram), kind="stable") if act_order else np.arange(len(gram))
    factor = inverse_factor(gram[np.ix_(order, order)], damping).astype(np.float32)
    scales, zeros = (_columns(part, order) for part in grid.spread(weights.shape[1]))
    left = _columns(weights, order)
    codes = np.empty(left.shape, np.int16)
    limits = code_range(grid.scheme)
    for start in range(0, len(left), block):
        end = min(start + block, len(left))
        errors = np.empty((end - start, left.shape[1]), np.float32)
        for i in range(start, end):
            codes[i] = to_codes(left[i], scales[i], zeros[i], limits)
            error = (left[i] - (codes[i] - zeros[i]) * scales[i]) / factor[i, i]
            left[i:end] -= np.outer(factor[i, i:end], error)
            errors[i - start] = error
        left[end:] -= factor[start:end, end:].T @ errors
    unordered = np.empty_like(codes)
    unordered[order] = codes
    return Rounded(grid, np.ascontiguousarray(unordered.T))


def _columns(matrix: Floats, order: NDArray[np.intp]) -> Floats:
    """The columns of [out, in] as rows, which lie together in memory: [in, out]."""
    return np.ascontiguousarray(matrix.T[order], dtype=np.float32)


def inverse_factor(gram: Floats, damping: float = DAMPING) -> Doubles:
    """The upper Cholesky factor U of the damped inverse: inv(gram + damping) = U'U.

    Where gram = R R' with R upper triangular, U is the inverse of R, so the inverse itself is never
    made. Inputs that were always zero get a diagonal of one: their columns round to nearest.
    """
    hessian = gram.astype(np.float64)
    diagonal = np.einsum("ii->i", hessian)
    diagonal[diagonal == 0] = 1
    diagonal += damping * diagonal.mean()
    upper = np.linalg.cholesky(hessian[::-1, ::-1])[::-1, ::-1]
    inverse: Doubles = np.triu(np.linalg.inv(upper))
    return inverse


def proxy_loss(weights: Floats, rounded: Rounded, gram: Floats) -> float:
    """tr((W - Q) X'X (W - Q)'): the squared error of the outputs over the inputs X."""
    difference = (weights - rounded.values()).astype(np.float64)
    return float(np.einsum("oi,oi->", difference @ gram, difference))
