"""What changes logits before a token is chosen: minimum length, bias and penalties."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vivace.core.sampling import SamplingParams
from vivace.core.step import ScheduledSequence

Row = NDArray[np.float32]


def adjusted(row: Row, sequence: ScheduledSequence, end_token_ids: Sequence[int]) -> Row:
    """Logits [vocab] as the request wants them, in vLLM's order; `row` itself is left alone.

    End and stop tokens are masked until `min_tokens`; then bias; then penalties. Returns `row`
    itself where nothing applies.
    """
    params = sequence.request.params
    num_output = len(sequence.token_ids) - sequence.num_prompt_tokens
    masks = num_output < params.min_tokens
    if not (masks or params.logit_bias or _penalizes(params)):
        return row
    row = row.copy()
    if masks:
        ids = {*end_token_ids, *params.stop_token_ids}
        row[[token_id for token_id in ids if token_id < row.size]] = -np.inf
    for token_id, bias in params.logit_bias.items():
        row[token_id] += bias
    if _penalizes(params):
        _penalize(row, sequence, params)
    return row


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
