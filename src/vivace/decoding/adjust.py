"""What changes logits before a token is chosen: what may be drawn at all, bias and penalties."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vivace.core.sampling import SamplingParams
from vivace.core.step import ScheduledSequence

Row = NDArray[np.float32]


def adjusted(row: Row, sequence: ScheduledSequence, banned: Sequence[int]) -> Row:
    """Logits [vocab] as the request wants them, in vLLM's order; `row` itself is left alone.

    First what may not be drawn: tokens that are not among the allowed ones, and the banned; then
    bias; then penalties. Returns `row` itself where nothing applies.
    """
    params = sequence.request.params
    restricts = params.allowed_token_ids is not None
    if not (banned or restricts or params.logit_bias or _penalizes(params)):
        return row
    row = _allowed(row, params.allowed_token_ids) if params.allowed_token_ids else row.copy()
    row[[token_id for token_id in banned if token_id < row.size]] = -np.inf
    for token_id, bias in params.logit_bias.items():
        row[token_id] += bias
    if _penalizes(params):
        _penalize(row, sequence, params)
    return row


def _allowed(row: Row, token_ids: Sequence[int]) -> Row:
    """A copy in which nothing else can be drawn."""
    kept = np.full_like(row, -np.inf)
    ids = np.asarray(token_ids, np.int64)
    kept[ids] = row[ids]
    return kept


def _penalizes(params: SamplingParams) -> bool:
    return (
        params.repetition_penalty != 1
        or params.presence_penalty != 0
        or params.frequency_penalty != 0
    )


def _penalize(row: Row, sequence: ScheduledSequence, params: SamplingParams) -> None:
    """Repetition (Keskar et al. 2019, CTRL) over prompt and output, the others over the output."""
    known = np.fromiter(sequence.token_ids, np.int64)
    if params.repetition_penalty != 1:
        seen = np.unique(known)
        logits, penalty = row[seen], np.float32(params.repetition_penalty)
        row[seen] = np.where(logits > 0, logits / penalty, logits * penalty)
    output, counts = np.unique(known[sequence.num_prompt_tokens :], return_counts=True)
    row[output] -= np.float32(params.frequency_penalty) * counts.astype(np.float32)
    row[output] -= np.float32(params.presence_penalty)
