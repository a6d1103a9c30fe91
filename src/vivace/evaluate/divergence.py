"""What one token costs a model, and how far two models are apart there.

Pure functions of matrices [rows, vocab], a row per predicted token; everything is in nats and in
float64, so that differences far below what quantization causes are still seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


def log_probabilities(logits: NDArray[np.float32]) -> Doubles:
    """The logarithm of softmax of each row of finite logits."""
    rows = logits.astype(np.float64)
    rows -= rows.max(axis=-1, keepdims=True)
    rows -= np.log(np.exp(rows).sum(axis=-1, keepdims=True))
    return rows


def negative_log_likelihood(log_probs: Doubles, targets: Sequence[int]) -> Doubles:
    """[rows]: -ln p(target)."""
    costs: Doubles = -log_probs[np.arange(len(targets)), np.asarray(targets, np.int64)]
    return costs


def kl_divergence(base: Doubles, other: Doubles) -> Doubles:
    """[rows]: KL(base || other) of log-probabilities, what is lost by taking `other` for `base`."""
    divergences: Doubles = (np.exp(base) * (base - other)).sum(axis=-1)
    return divergences


def same_top1(base: Doubles, other: Doubles) -> NDArray[np.bool_]:
    """[rows]: whether both have the same likeliest token; of equals the first, as greedy decoding
    takes it."""
    same: NDArray[np.bool_] = base.argmax(axis=-1) == other.argmax(axis=-1)
    return same
