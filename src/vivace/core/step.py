"""One engine step as plain data: what the scheduler chose, and what decoding picked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vivace.core.request import FinishReason, Logprob, Request


@dataclass(frozen=True)
class ScheduledSequence:
    """One request's share of a step: tokens known minus tokens computed, cut to the budget.

    Attributes:
        request: as it was added.
        token_ids: every known token, prompt then output. Read only; it grows after the step.
        start: tokens computed before this step; this step computes [start, start + count).
        count: tokens to compute now, at least 1.
        block_tables: page ids by block, one table per KV group; block i holds positions
            [16 i, 16 i + 16). Entries of a window group that it has passed are 0 and unread.
        samples: whether the last known token is computed now, so that a new one is drawn.
        reads: positions computed now whose outputs were asked for: the logits that predict the
            prompt's next token, or, where the request has `pooling`, the hidden states.
    """

    request: Request
    token_ids: Sequence[int]
    start: int
    count: int
    block_tables: tuple[Sequence[int], ...]
    samples: bool
    reads: range = range(0)

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.request.prompt_token_ids)


@dataclass(frozen=True)
class Step:
    """What to compute now. Logits are wanted for the last row of each sampling sequence, and behind
    all of these for the rows that sequences read; both in the order of the sequences. Sequences to
    be pooled have hidden states in place of logits, and stand apart."""

    sequences: tuple[ScheduledSequence, ...]

    @property
    def num_tokens(self) -> int:
        return sum(sequence.count for sequence in self.sequences)

    @property
    def sampling(self) -> tuple[ScheduledSequence, ...]:
        return tuple(sequence for sequence in self.sequences if sequence.samples)

    @property
    def generating(self) -> tuple[ScheduledSequence, ...]:
        return tuple(one for one in self.sequences if one.request.pooling is None)

    @property
    def pooling(self) -> tuple[ScheduledSequence, ...]:
        return tuple(one for one in self.sequences if one.request.pooling is not None)

    @property
    def num_logit_rows(self) -> int:
        return sum(one.samples + len(one.reads) for one in self.generating)


@dataclass(frozen=True)
class Picked:
    """The token drawn for one sampling sequence.

    `completes`: nothing may follow but the answer's end, which this token is.
    """

    request_id: str
    token_id: int
    logprobs: dict[int, Logprob] | None = None
    completes: bool = False


@dataclass(frozen=True)
class Scored:
    """Log-probabilities of prompt tokens: those behind the positions that a sequence reads."""

    request_id: str
    logprobs: tuple[dict[int, Logprob], ...]


@dataclass(frozen=True)
class Pooled:
    """The vector of a sequence to be pooled, whose last token is computed now."""

    request_id: str
    embedding: tuple[float, ...]


@dataclass(frozen=True)
class Advance:
    """What a picked token adds as text, and whether the answer ends with it.

    `text` on the last one includes all that was held back and is not part of a stop string.
    """

    request_id: str
    text: str = ""
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
