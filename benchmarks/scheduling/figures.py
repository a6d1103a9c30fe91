"""Figures of many values, as JSON takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np

RANKS = np.linspace(0, 1, 101)


def p99(values: Sequence[float]) -> float:
    return float(np.percentile(values, 99))


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each figure."""
    return {name: median(one[name] for one in rounds) for name in rounds[0]}


def quantiles(values: Sequence[float]) -> list[float]:
    """From the least to the greatest in hundredths, for pictures."""
    return [float(f"{value:.4g}") for value in np.quantile(values, RANKS)]
