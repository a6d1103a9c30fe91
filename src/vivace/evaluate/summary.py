"""From the numbers of each token to the figures of a text, each with its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.evaluate.bootstrap import Estimate, bootstrap, quantile, ratio
from vivace.evaluate.continuations import common_prefix
from vivace.evaluate.divergence import Doubles
from vivace.evaluate.scoring import Beside, Scores, Window

TAIL = 0.99


def prediction(nats: Doubles, scores: Scores, windows: Sequence[Window]) -> dict[str, Estimate]:
    """Of a model's `nats` per token of `scores`: perplexity per token, and bits per byte."""
    costs = _per_window(nats, scores)
    tokens = np.asarray([len(window.targets) for window in windows])
    num_bytes = np.asarray([window.num_bytes for window in windows])
    return {
        "perplexity": bootstrap(ratio(costs, tokens), len(windows)).map(math.exp),
        "bits_per_byte": bootstrap(ratio(costs / math.log(2), num_bytes), len(windows)),
    }


def divergence(scores: Scores, beside: Beside, windows: Sequence[Window]) -> dict[str, Estimate]:
    """How far a model is from its base: all in nats per token, but for the share of tokens at
    which both have the same likeliest one. `delta_nll` is ln(perplexity / base perplexity)."""
    tokens = np.asarray([len(window.targets) for window in windows])

    def mean(values: NDArray[Any]) -> Estimate:
        return bootstrap(ratio(_per_window(values, scores), tokens), len(windows))

    tail = quantile(beside.kl, scores.windows, TAIL)
    return {
        "delta_nll": mean(scores.nats - beside.base_nats),
        "kl_mean": mean(beside.kl),
        "kl_p99": bootstrap(tail, len(windows)),
        "top1_agreement": mean(beside.same_top1),
    }


def greedy_agreement(
    base: Sequence[Sequence[int]], other: Sequence[Sequence[int]]
) -> dict[str, Estimate]:
    """Of greedy continuations, one for each prompt: the share of their tokens before the first
    difference, and the share of continuations that are wholly the same."""
    same = np.asarray([common_prefix(*pair) for pair in zip(base, other, strict=True)])
    lengths = np.asarray([len(tokens) for tokens in base])
    return {
        "greedy_agreement": bootstrap(ratio(same, lengths), len(same)),
        "greedy_identical": bootstrap(ratio(same == lengths, np.ones(len(same))), len(same)),
    }


def recall(found: Sequence[bool]) -> Estimate:
    """The share of questions that were answered with the value."""
    return bootstrap(ratio(np.asarray(found), np.ones(len(found))), len(found))


def _per_window(values: NDArray[Any], scores: Scores) -> NDArray[Any]:
    """The sum over the tokens of each window."""
    return np.bincount(scores.windows, weights=values)
