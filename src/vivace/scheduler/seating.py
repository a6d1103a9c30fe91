"""Who waits takes a seat: a free one, or that of one who gives way."""

from __future__ import annotations

from vivace.scheduler.aging import Aging
from vivace.scheduler.preemption import Preemption
from vivace.scheduler.seats import Seats
from vivace.scheduler.sequence import Sequence
from vivace.scheduler.turn import Turn


class Seating:
    """Args:
    seats: who runs, and on which pages.
    preemption: who gives way.
    """

    def __init__(self, seats: Seats, preemption: Preemption, aging: Aging) -> None:
        self._seats = seats
        self._preemption = preemption
        self._aging = aging

    def take(self, sequence: Sequence, turn: Turn) -> bool:
        """Let a waiting sequence run, if there is a seat for it, and a token, and pages."""
        unserved = self._seats.taken - len(turn.chosen)  # one token is kept for each of these
        full = self._seats.taken >= turn.seats or turn.left <= unserved
        victim = self._victim(sequence, turn) if full else None
        if (full and victim is None) or turn.room(sequence) < 1:
            turn.closed = turn.closed or self._aging.aged(sequence, turn.now)
            return False
        if sequence.pages is None and (turn.closed or not self._open(sequence, turn)):
            turn.closed = True
            return False
        if victim is not None and victim.seated:
            self._seats.pause(victim, turn.now)
        self._seats.sit(sequence, turn.now)
        return True

    def _victim(self, sequence: Sequence, turn: Turn) -> Sequence | None:
        kind = (sequence.request.priority, sequence.request.tenant)
        if turn.closed or kind in turn.refused:
            return None
        victim = self._preemption.victim(sequence, turn.order, turn.now)
        if victim is None:
            turn.refused.add(kind)
        return victim

    def _open(self, sequence: Sequence, turn: Turn) -> bool:
        """Give a waiting sequence its shared pages, if all its known tokens will fit once those
        have given up theirs who must."""
        while not self._seats.open(sequence):
            giver = self._preemption.giver(sequence, turn.order, turn.now)
            if giver is None:
                return False
            self._seats.give_up_pages(giver, turn.now)
        return True
