"""What counts as an integer and as a number: NumPy's too, but never True or False."""

from __future__ import annotations

import numbers


def is_integer(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """NaN and the infinities are numbers here; no range holds them."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
