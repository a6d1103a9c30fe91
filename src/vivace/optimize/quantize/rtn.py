"""Rounding to nearest: the baseline that everything else is judged against."""

from __future__ import annotations

from vivace.formats.qtensor import Scheme
from vivace.optimize.quantize.grid import Floats, Rounded, fit


def rtn(weights: Floats, scheme: Scheme) -> Rounded:
    """Every weight by itself, on the grid that spans its group's range."""
    return fit(weights, scheme).round(weights)
