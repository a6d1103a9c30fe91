"""Drawing one token from a row of logits: temperature, min-p, top-k, top-p, then the draw."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vivace.core.sampling import SamplingParams
from vivace.decoding.adjust import Row

_FIRST_WIDTH = 256  # tokens ranked at first when only top-p limits them; it grows as needed
_LEAST_TEMPERATURE = 1e-37  # a float32 that can be divided by

Ids = NDArray[np.int64]


def draw(logits: Row, params: SamplingParams, uniform: float) -> int:
    """The token at `uniform` in [0, 1) of the kept tokens' cumulative distribution.

    Args:
        logits: [vocab]; -inf is never drawn, the largest is finite.
        params: its temperature is above 0.
    """
    ids = kept(logits, params)
    weights = _weights(logits if ids is None else logits[ids], logits.max(), params)
    mass = np.cumsum(weights, dtype=np.float64)
    # uniform is at most 1 - 2**-53, so the product rounds to less than the whole mass.
    place = int(mass.searchsorted(uniform * mass[-1], side="right"))
    return place if ids is None else int(ids[place])


def kept(logits: Row, params: SamplingParams) -> Ids | None:
    """The tokens that may be drawn, likeliest first; None is all of them, by id.

    Each of the options keeps the likeliest tokens, so together they keep a number of them.
    """
    count = _num_kept(logits, params)
    if params.top_p < 1:
        return _nucleus(logits, params, count)
    return None if count == logits.size else likeliest(logits, count)


def likeliest(logits: Row, count: int) -> Ids:
    """The `count` highest ids, highest logit first, the lower id first among equals."""
    first = logits.size - count
    least = np.partition(logits, first)[first]
    ids = np.flatnonzero(logits >= least)
    return ids[np.argsort(-logits[ids], kind="stable")[:count]]


def _num_kept(logits: Row, params: SamplingParams) -> int:
    """How many tokens min-p and top-k keep, at least 1."""
    count = logits.size
    if params.top_k > 0:
        count = min(count, params.top_k)
    if params.min_p > 0:
        least = float(logits.max()) + params.temperature * math.log(params.min_p)
        count = min(count, int(np.count_nonzero(logits >= least)))
    return max(count, 1)


def _nucleus(logits: Row, params: SamplingParams, count: int) -> Ids:
    """The smallest set of the `count` likeliest that holds `top_p` of their probability.

    Ranking is the costly part: with the whole vocabulary allowed, only as many are ranked as
    the set turns out to need.
    """
    best, total, width = logits.max(), None, count
    if count == logits.size:
        total = _weights(logits, best, params).sum(dtype=np.float64)
        width = min(count, _FIRST_WIDTH)
    while True:
        ids = likeliest(logits, width)
        mass = np.cumsum(_weights(logits[ids], best, params), dtype=np.float64)
        goal = params.top_p * (mass[-1] if total is None else total)
        if mass[-1] >= goal or width == count:
            return ids[: mass.searchsorted(goal) + 1]
        width = min(count, 8 * width)


def _weights(logits: Row, best: np.float32, params: SamplingParams) -> Row:
    """Probabilities up to a common factor; the likeliest token weighs 1."""
    temperature = max(params.temperature, _LEAST_TEMPERATURE)
    with np.errstate(over="ignore", under="ignore"):  # when tiny, the rest weighs nothing
        weights: Row = np.exp((logits - best) / np.float32(temperature))
    return weights
