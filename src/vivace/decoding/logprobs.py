"""Log-probabilities of tokens under the model itself, before any sampling option."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vivace.core.request import Logprob
from vivace.decoding.adjust import Row

Ids = NDArray[np.int64]


def raw_logprobs(
    row: Row, token_id: int, count: int, decode: Callable[[int], str] | None
) -> dict[int, Logprob]:
    """The chosen token first, then the `count` likeliest, as vLLM's `raw_logprobs` orders them.

    Args:
        row: the model's logits [vocab].
        decode: a token's own text.
    """
    best = row.max()
    log_total = float(best) + float(np.log(np.exp(row - best).sum(dtype=np.float64)))

    def entry(token: int, rank: int) -> Logprob:
        text = decode(token) if decode else ""
        return Logprob(float(row[token]) - log_total, rank, text)

    entries = {token_id: entry(token_id, _rank(row, token_id))}
    if count:
        top = likeliest(row, min(count, row.size)).tolist()
        entries |= {token: entry(token, rank) for rank, token in enumerate(top, start=1)}
    return entries


def likeliest(logits: Row, count: int) -> Ids:
    """The `count` highest ids, highest logit first, the lower id first among equals."""
    first = logits.size - count
    least = np.partition(logits, first)[first]
    ids = np.flatnonzero(logits >= least)
    return ids[np.argsort(-logits[ids], kind="stable")[:count]]


def _rank(row: Row, token_id: int) -> int:
    """1 is the likeliest; among equals the lower id comes first."""
    logit = row[token_id]
    likelier = np.count_nonzero(row > logit) + np.count_nonzero(row[:token_id] == logit)
    return int(likelier) + 1
