"""Softmax weights that are the same numbers on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vivace.decoding.adjust import Row

Weights = NDArray[np.float64]

_UNIT = 32  # a weight of 1 is 2 ** 32 units
_LEAST_EXPONENT = np.float32(-30)  # e^-30 rounds to no unit
# Cephes expf: ln 2 in two parts, and the polynomial for e^r from the highest power down.
_LOG2_E = np.float32(1.44269504)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_EXP = np.array(
    [
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    ],
    np.float32,
)


def weights(logits: Row, best: float, inverse_temperature: float) -> Weights:
    """exp((logit - best) * inverse_temperature) in units of 2^-32, to the nearest unit.

    Probabilities up to a common factor, of which the likeliest token has 2^32. They are made of
    IEEE operations in float32 alone, in a fixed order, and none has more than 53 bits with up to
    2^20 others: every implementation gives the same weights, and the same sums in any order.
    native/sampling_impl.hpp is the other one.

    Args:
        logits: any shape; at most `best`, which is finite.
    """
    with np.errstate(over="ignore", under="ignore"):  # what is so far below weighs nothing
        x = (logits - np.float32(best)) * np.float32(inverse_temperature)
    y = np.maximum(x, _LEAST_EXPONENT)
    n = np.rint(y * _LOG2_E)
    r = y - n * _LN2_HIGH - n * _LN2_LOW
    p = np.full_like(r, _EXP[0])
    for coefficient in _EXP[1:]:
        p = p * r + coefficient
    power = p * (r * r) + (r + np.float32(1))
    weight = np.ldexp(power, n.astype(np.int32) + _UNIT)
    rounded: Weights = np.where(weight < 2**22, np.rint(weight), weight).astype(np.float64)
    return rounded
