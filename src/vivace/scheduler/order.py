"""Whose turn it is: all sequences, running or not, in one order that is made anew in each step."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from vivace.scheduler.aging import Aging
from vivace.scheduler.fair_share import FairShare
from vivace.scheduler.prefix_first import PrefixFirst
from vivace.scheduler.sequence import Sequence


class Order:
    """First who has aged, in order of arrival. Then by priority, earliest deadline, least served
    tenant, longest known prefix, and arrival: each counts only among those whom everything before
    it leaves equal.
    """

    def __init__(self, aging: Aging, shares: FairShare, prefixes: PrefixFirst) -> None:
        self._aging = aging
        self._shares = shares
        self._prefixes = prefixes

    def arrange(self, sequences: Iterable[Sequence], now: float) -> list[Sequence]:
        """The order at `now` of sequences given in order of arrival."""
        aged: list[Sequence] = []
        others: list[Sequence] = []
        for sequence in sequences:
            (aged if self._aging.aged(sequence, now) else others).append(sequence)
        keys = dict(zip(others, self._prefixes.keys(others, now), strict=True))
        others.sort(key=lambda one: (*_urgency(one), keys[one], one.number))
        starts = dict(zip([*aged, *others], self._shares.starts([*aged, *others]), strict=True))
        others.sort(key=lambda one: (*_urgency(one), starts[one], keys[one], one.number))
        return aged + others


def _urgency(sequence: Sequence) -> tuple[int, float]:
    deadline = sequence.request.deadline
    return sequence.request.priority, inf if deadline is None else deadline
