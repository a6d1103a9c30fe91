"""Confidence intervals by resampling: Efron, "Bootstrap methods: another look at the jackknife"
(1979), in the percentile form.

Tokens of one window depend on each other, so what is drawn is whole windows (the block bootstrap),
or whole prompts. Figures of two models on the same text are resampled with the same draws and are
therefore paired.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 1000

Weights = NDArray[Any]  # [units]: how often each is counted
Statistic = Callable[[Weights], float]


@dataclass(frozen=True)
class Estimate:
    """A figure, and the interval that holds it with `CONFIDENCE`; None where there was only one
    unit to draw from."""

    value: float
    low: float | None = None
    high: float | None = None

    def map(self, function: Callable[[float], float]) -> Estimate:
        """The same of an increasing function of the figure."""
        low, high = (None if end is None else function(end) for end in (self.low, self.high))
        return Estimate(function(self.value), low, high)


def bootstrap(statistic: Statistic, num_units: int, seed: int = 0) -> Estimate:
    """A statistic of all units, and its interval over `RESAMPLES` draws with replacement."""
    value = statistic(np.ones(num_units, np.int64))
    if num_units < 2:
        return Estimate(value)
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(num_units, size=num_units) for _ in range(RESAMPLES))
    found = [statistic(np.bincount(units, minlength=num_units)) for units in drawn]
    low, high = np.quantile(found, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Estimate(value, float(low), float(high))


def ratio(numerators: NDArray[Any], denominators: NDArray[Any]) -> Statistic:
    """The sum of one thing over the sum of another, both [units]: a mean per token, per byte."""
    return lambda weights: float(weights @ numerators / (weights @ denominators))


def quantile(values: NDArray[Any], units: NDArray[np.int64], level: float) -> Statistic:
    """The least of all values that a share `level` of them does not pass.

    Args:
        values: [n].
        units: [n], the unit that each value belongs to.
    """
    order = np.argsort(values)
    ordered, owners = values[order], units[order]

    def statistic(weights: Weights) -> float:
        counts = np.cumsum(weights[owners])
        return float(ordered[np.searchsorted(counts, level * counts[-1])])

    return statistic
