"""Least squares without negative coefficients, for a handful of unknowns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]

TOLERANCE = 1e-10
SWEEPS = 3  # times the unknowns: more exchanges than this are rounding errors going in circles


def nonnegative_least_squares(gram: Vector, target: Vector, positive: Mask | None = None) -> Vector:
    """The x >= 0 that minimises |A x - y|, from gram = A'A [n, n] and target = A'y [n].

    An active set that grows by the steepest unknown (Lawson and Hanson, 1974; on the normal
    equations: Bro and De Jong, 1997). `gram` must be positive definite.

    Args:
        positive: which unknowns are expected to be above 0 [n]; it is found sooner the nearer
            this is to the truth, and is the same whatever it is.
    """
    free: Mask = np.zeros(len(target), np.bool_) if positive is None else positive.copy()
    found = _settle(gram, target, np.zeros(len(target)), free)
    spent: Mask = np.zeros(len(target), np.bool_)  # left as soon as freed, by rounding errors
    for _ in range(SWEEPS * len(target)):
        slope = np.where(free | spent, -np.inf, target - gram @ found)
        steepest = int(np.argmax(slope))
        if slope[steepest] <= TOLERANCE * np.abs(target).max():
            break
        free[steepest] = True
        found = _settle(gram, target, found, free)
        spent = spent & ~free[steepest]
        spent[steepest] = not free[steepest]
    return found


def _settle(gram: Vector, target: Vector, found: Vector, free: Mask) -> Vector:
    """The minimum over the free unknowns; those that would turn negative leave `free`."""
    while free.any():
        wanted = np.zeros(len(target))
        wanted[free] = np.linalg.solve(gram[np.ix_(free, free)], target[free])
        negative = free & (wanted <= 0)
        if not negative.any():
            return wanted
        reach = found[negative] / np.maximum(found[negative] - wanted[negative], TOLERANCE)
        found = found + reach.min() * (wanted - found)
        free[negative & (found <= found[negative].min() + TOLERANCE)] = False
        found = np.where(free, found, 0.0)
    return np.zeros(len(target))
