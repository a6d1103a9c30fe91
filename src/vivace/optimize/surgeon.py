"""Optimal brain surgeon, column by column: the mathematics that GPTQ and SparseGPT share.

A column of a matrix is settled to other values, and the columns still free take over its error, so
that the matrix' outputs change least: the error is measured by the inputs' second moments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivace.optimize.observe import Floats

Doubles: TypeAlias = NDArray[np.float64]
Settle: TypeAlias = Callable[[int], Floats]  # the place of a column, to its final values [out]

BLOCK = 128
DAMPING = 0.01


def inverse_factor(gram: Floats, damping: float = DAMPING) -> Doubles:
    """The upper Cholesky factor U of the damped inverse: inv(gram + damping) = U'U.

    Where gram = R R' with R upper triangular, U is the inverse of R, so the inverse itself is never
    made. Inputs that were always zero get a diagonal of one: their columns change no other.

    Args:
        damping: added to the diagonal, times its mean.

    Raises:
        ValueError: the inputs are not finite.
    """
    if not np.isfinite(gram).all():
        raise ValueError("The calibration inputs are not finite.")
    hessian = gram.astype(np.float64)
    diagonal = np.einsum("ii->i", hessian)
    diagonal[diagonal == 0] = 1
    diagonal += damping * diagonal.mean()
    upper = np.linalg.cholesky(hessian[::-1, ::-1])[::-1, ::-1]
    inverse: Doubles = np.triu(np.linalg.inv(upper))
    return inverse


def columns_of(matrix: Floats, order: NDArray[np.intp]) -> Floats:
    """The columns of [out, in] as rows, which lie together in memory: [in, out]."""
    return np.ascontiguousarray(matrix.T[order], dtype=np.float32)


def sweep(left: Floats, factor: Floats, settle: Settle, block: int = BLOCK) -> None:
    """Settle every column in turn; `left` [in, out], a matrix' columns, becomes the result.

    Args:
        factor: of `inverse_factor`, in the order of the columns.
        settle: called once for each column, when it and those behind it in its block stand in
            `left` as everything before has moved them.
        block: columns whose updates to the columns behind them are put together (the same result
            but for float rounding, at the speed of matrix products).
    """
    for start in range(0, len(left), block):
        end = min(start + block, len(left))
        errors = np.empty((end - start, left.shape[1]), np.float32)
        for i in range(start, end):
            settled = settle(i)
            error = (left[i] - settled) / factor[i, i]
            left[i:end] -= np.outer(factor[i, i:end], error)
            left[i] = settled
            errors[i - start] = error
        left[end:] -= factor[start:end, end:].T @ errors
