"""The bound on waiting."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from vivace.scheduler.sequence import Sequence


@dataclass(frozen=True)
class Aging:
    """Who waited `max_wait` seconds in all has aged: from then on only the order of arrival counts
    for it. No priority, deadline or share brings a later request before it, so what it still
    waits for is requests that came before it.

    What counts is all its waiting together, which never falls: an aged request stays aged, and
    two requests cannot take a seat from each other in turns.
    """

    max_wait: float = inf

    def aged(self, sequence: Sequence, now: float) -> bool:
        return sequence.waited(now) >= self.max_wait
