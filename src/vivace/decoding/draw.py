"""Drawing one token from a row of logits: temperature, min-p, top-k, top-p, then the draw."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vivace.core.sampling import SamplingParams
from vivace.decoding.adjust import Row
from vivace.decoding.weights import weights

_LEAST_TEMPERATURE = 1e-37  # its inverse is a float32

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Limits:
    """Which tokens of a row may be drawn, and how likely they are.

    Each limit keeps the likeliest tokens, the lower id first among equals; together they keep at
    least one.

    Attributes:
        best: the largest logit; finite.
        inverse_temperature: logits are multiplied by it.
        least: tokens below this logit are out (min-p).
        count: at most so many are kept (top-k), at least 1.
        top_p: of those, the fewest whose probability reaches this share.
    """

    best: float
    inverse_temperature: float
    least: float
    count: int
    top_p: float


def limits(params: SamplingParams, best: float, vocab_size: int) -> Limits:
    """What a request's options mean for a row; its temperature is above 0."""
    temperature = max(params.temperature, _LEAST_TEMPERATURE)
    least = best + temperature * math.log(params.min_p) if params.min_p > 0 else -math.inf
    count = min(params.top_k, vocab_size) if params.top_k > 0 else vocab_size
    return Limits(best, 1 / temperature, least, count, params.top_p)


def draw(logits: Row, limits: Limits, uniform: float) -> int:
    """The token at `uniform` in [0, 1) of the kept tokens' cumulative distribution, by id.

    Args:
        logits: [vocab]; none is NaN, -inf is never drawn.
    """
    ids = kept(logits, limits)
    mass = np.cumsum(weights(logits[ids], limits.best, limits.inverse_temperature))
    # uniform is at most 1 - 2**-53, so the product rounds to less than the whole mass.
    return int(ids[mass.searchsorted(uniform * mass[-1], side="right")])


def kept(logits: Row, limits: Limits) -> Ids:
    """The tokens that may be drawn, by id."""
    ids = np.flatnonzero(logits >= np.float32(limits.least))
    if limits.count < ids.size or limits.top_p < 1:
        ids = ids[np.argsort(-logits[ids], kind="stable")[: limits.count]]
    if limits.top_p < 1:
        mass = np.cumsum(weights(logits[ids], limits.best, limits.inverse_temperature))
        ids = ids[: mass.searchsorted(limits.top_p * mass[-1]) + 1]
    return np.sort(ids)
