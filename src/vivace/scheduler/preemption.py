"""Who gives way to whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as SequenceOf

from vivace.scheduler.aging import Aging
from vivace.scheduler.fair_share import FairShare
from vivace.scheduler.sequence import Sequence


class Preemption:
    """A seat goes to an aged request from whoever came after it, to a better priority from a
    worse one, and inside a priority to a tenant that has fewer seats than its share. Never back
    at once: each of these makes what was given away the better claim.
    """

    def __init__(self, aging: Aging, shares: FairShare) -> None:
        self._aging = aging
        self._shares = shares

    def victim(
        self, sequence: Sequence, order: SequenceOf[Sequence], now: float
    ) -> Sequence | None:
        """Whose seat `sequence` may take: the last behind it in `order` that must give way."""
        seats = Counter(one.request.tenant for one in order if one.seated)
        for other in reversed(order):
            if other is sequence:
                return None
            if other.seated and self._gives_way(other, sequence, seats, now):
                return other
        return None

    def giver(self, sequence: Sequence, order: SequenceOf[Sequence], now: float) -> Sequence | None:
        """Who gives up pages so that `sequence` can start: the last paused one behind it, or else
        its `victim`."""
        for other in reversed(order):
            if other is sequence:
                break
            if other.pages is not None and not other.seated:
                return other
        return self.victim(sequence, order, now)

    def _gives_way(
        self, running: Sequence, waiting: Sequence, seats: Counter[str], now: float
    ) -> bool:
        came_after = running.number > waiting.number
        if self._aging.aged(running, now):
            return came_after and self._aging.aged(waiting, now)
        if came_after and self._aging.aged(waiting, now):
            return True
        mine, theirs = waiting.request, running.request
        if mine.priority != theirs.priority:
            return mine.priority < theirs.priority
        return self._shares.owed(mine.tenant, theirs.tenant, seats)


def first_to_give_pages(order: SequenceOf[Sequence]) -> Sequence:
    """Whose pages are taken where pages run out: the last that is paused, or else the last that
    runs. Somebody must hold some."""
    holders = [one for one in order if one.pages is not None]
    paused = [one for one in holders if not one.seated]
    return (paused or holders)[-1]
