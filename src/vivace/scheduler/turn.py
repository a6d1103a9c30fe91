"""A step in the making."""

from __future__ import annotations

from dataclasses import dataclass, field

from vivace.core.step import ScheduledSequence
from vivace.scheduler.sequence import Sequence


@dataclass
class Turn:
    """Who stands where, and what is left to give out.

    Attributes:
        order: everybody, first in rank first.
        seats: how many may run, where some wait; those who run stay.
        left: tokens of the step.
        prefill: of these, for prompts that hold back; below 0 where better ones took more.
        scoring_rows: rows of logits, beside the one that each sequence has.
        streams: the best priority among those who decode, its number; inf where nobody does.
        chosen: who has its share; all of them are seated.
        closed: somebody was refused: nobody behind it may start before it.
        refused: (priority, tenant) of those for whom nobody gives way.
    """

    now: float
    order: list[Sequence]
    seats: int
    left: int
    prefill: int
    scoring_rows: int
    streams: float
    chosen: list[ScheduledSequence] = field(default_factory=list)
    closed: bool = False
    refused: set[tuple[int, str]] = field(default_factory=set)

    def room(self, sequence: Sequence) -> int:
        """Tokens that it may have: a prompt holds back for streams of its own or a better
        priority; worse ones wait for it, as they do for a seat."""
        if sequence.left == 1 or sequence.request.priority < self.streams:
            return self.left
        return min(self.left, self.prefill)

    def give(self, sequence: Sequence, share: ScheduledSequence) -> None:
        self.chosen.append(share)
        self.left -= share.count
        if sequence.left > 1:
            self.prefill -= share.count
        if sequence.request.pooling is None:
            self.scoring_rows -= len(share.reads)
