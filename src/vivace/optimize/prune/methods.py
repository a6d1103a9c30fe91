"""How weights are chosen that go, and what becomes of the others.

Pure functions of a matrix [out, in] and X'X [in, in] of its inputs, whose scale does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vivace.core.errors import UsageError
from vivace.optimize.observe import Floats
from vivace.optimize.prune.pattern import Mask, Pattern, keep_by_matrix, keep_by_row
from vivace.optimize.surgeon import BLOCK, DAMPING, columns_of, inverse_factor, sweep


def magnitude(weights: Floats, pattern: Pattern) -> Mask:
    """The largest weights of the matrix stay."""
    return keep_by_matrix(np.abs(weights), pattern)


def wanda(weights: Floats, gram: Floats, pattern: Pattern) -> Mask:
    """Sun et al., "A Simple and Effective Pruning Approach for Large Language Models" (2023): in
    each row, the largest |weight| times the norm of its input stay."""
    return keep_by_row(_wanda_scores(weights, gram), pattern)


def wanda_by_matrix(weights: Floats, gram: Floats, pattern: Pattern) -> Mask:
    """The same scores, of which the largest of the matrix stay, as `magnitude` has it."""
    return keep_by_matrix(_wanda_scores(weights, gram), pattern)


def _wanda_scores(weights: Floats, gram: Floats) -> Floats:
    scores: Floats = np.abs(weights) * np.sqrt(np.diag(gram)).astype(np.float32)
    return scores


def sparsegpt(
    weights: Floats,
    gram: Floats,
    pattern: Pattern,
    damping: float = DAMPING,
    block: int = BLOCK,
) -> Floats:
    """Frantar and Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in
    One-Shot" (2023): the pruned matrix.

    From left to right each weight that goes is made up for by those behind it. Which ones go is
    decided for a block of columns, or for a group of the pattern, when it is reached: those that
    cost least, w^2 over the diagonal of the inverse Hessian; of inputs that were always zero,
    nothing.

    Args:
        block: columns; less where groups of the pattern do not divide it.
    """
    chosen_at_once = pattern.of or block
    order = np.arange(len(gram))
    factor = inverse_factor(gram, damping).astype(np.float32)
    costs = np.where(np.diag(gram) > 0, 1 / np.square(np.diag(factor)), 0)[:, None]
    left = columns_of(weights, order)
    kept = np.empty(left.shape, np.bool_)

    def settle(i: int) -> Floats:
        if i % chosen_at_once == 0:
            ahead = slice(i, i + chosen_at_once)
            kept[ahead] = keep_by_matrix((np.square(left[ahead]) * costs[ahead]).T, pattern).T
        return _masked(left[i], kept[i])

    sweep(left, factor, settle, max(block // chosen_at_once, 1) * chosen_at_once)
    return np.ascontiguousarray(left.T)


@dataclass(frozen=True)
class Method:
    """Attributes:
    prune: a linear's weights, given X'X of its inputs where `reads_text`.
    """

    prune: Callable[[Floats, Floats | None, Pattern], Floats]
    reads_text: bool = True


def _magnitude(weights: Floats, gram: Floats | None, pattern: Pattern) -> Floats:
    return _masked(weights, magnitude(weights, pattern))


def _wanda(weights: Floats, gram: Floats | None, pattern: Pattern) -> Floats:
    assert gram is not None
    return _masked(weights, wanda(weights, gram, pattern))


def _wanda_by_matrix(weights: Floats, gram: Floats | None, pattern: Pattern) -> Floats:
    assert gram is not None
    return _masked(weights, wanda_by_matrix(weights, gram, pattern))


def _sparsegpt(weights: Floats, gram: Floats | None, pattern: Pattern) -> Floats:
    assert gram is not None
    return sparsegpt(weights, gram, pattern)


def _masked(weights: Floats, kept: Mask) -> Floats:
    masked: Floats = np.where(kept, weights, np.float32(0))
    return masked


METHODS: dict[str, Method] = {
    "magnitude": Method(_magnitude, reads_text=False),
    "wanda": Method(_wanda),
    "wanda-matrix": Method(_wanda_by_matrix),
    "sparsegpt": Method(_sparsegpt),
}


def method_named(name: str) -> Method:
    """Raises UsageError: there is no such method."""
    if name not in METHODS:
        raise UsageError(f"There is no method {name!r}; choose among {', '.join(METHODS)}.")
    return METHODS[name]
