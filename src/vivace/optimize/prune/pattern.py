"""Which weights go: a share of them, or so many of each few neighbours."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivace.core.errors import UsageError
from vivace.optimize.observe import Floats

Mask: TypeAlias = NDArray[np.bool_]  # [out, in], true where a weight is kept


@dataclass(frozen=True)
class Pattern:
    """Attributes:
    kept, of: weights kept of each `of` neighbouring inputs of an output; None where any may go.
    sparsity: the share of weights that go.
    """

    sparsity: float
    kept: int | None = None
    of: int | None = None

    def count(self, weights: int) -> int:
        """How many of some weights go."""
        return round(self.sparsity * weights)

    def fits(self, width: int) -> bool:
        """Whether rows of `width` inputs divide into the pattern."""
        return self.of is None or width % self.of == 0

    def __str__(self) -> str:
        return f"{self.sparsity:g}" if self.of is None else f"{self.kept}:{self.of}"


def pattern_of(sparsity: float | None, groups: str | None) -> Pattern:
    """Of a share, or of "2:4" for two kept of each four; half of all where neither is given.

    Raises:
        UsageError: both are given, or one is no such thing.
    """
    if groups is None:
        share = 0.5 if sparsity is None else sparsity
        if not 0 < share < 1:
            raise UsageError(f"sparsity must lie between 0 and 1, got {share:g}.")
        return Pattern(share)
    if sparsity is not None:
        raise UsageError("A pattern says the sparsity; give one of the two.")
    found = re.fullmatch(r"(\d+):(\d+)", groups)
    kept, of = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 < kept < of:
        raise UsageError(f"{groups!r} is no pattern: give how many are kept of how many, as 2:4.")
    return Pattern(1 - kept / of, kept, of)


def keep_by_row(scores: Floats, pattern: Pattern) -> Mask:
    """The highest scores of each row [out, in], or of each group of a row; of equals the first."""
    if pattern.of is None:
        return _keep_best(scores, pattern.count(scores.shape[1]))
    groups = scores.reshape(-1, pattern.of)
    assert pattern.kept is not None
    return _keep_best(groups, pattern.of - pattern.kept).reshape(scores.shape)


def keep_by_matrix(scores: Floats, pattern: Pattern) -> Mask:
    """The highest scores of the matrix, or of each group of a row."""
    if pattern.of is not None:
        return keep_by_row(scores, pattern)
    return _keep_best(scores.reshape(1, -1), pattern.count(scores.size)).reshape(scores.shape)


def _keep_best(scores: Floats, dropped: int) -> Mask:
    order = np.argsort(-scores, axis=1, kind="stable")
    kept = np.ones(scores.shape, np.bool_)
    np.put_along_axis(kept, order[:, scores.shape[1] - dropped :], False, axis=1)
    return kept
