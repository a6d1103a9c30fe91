"""Whose turn it is: sequences kept in the order of their rank.

A policy is a function from a request to its rank; what must be re-ranked while it waits (fair
shares, aging) would be another queue class with the same methods.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import TypeAlias

from vivace.core.request import Request
from vivace.scheduler.sequence import Rank, Sequence

Policy: TypeAlias = Callable[[Request, int], Rank]

_rank = attrgetter("rank")


def first_come_first_served(request: Request, number: int) -> Rank:
    """By priority, and in order of arrival (`number`) among equals."""
    return (request.priority, number)


class RankedQueue:
    """Sequences, lowest rank first. Ranks are distinct and do not change."""

    def __init__(self) -> None:
        self._sequences: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._sequences)

    def __getitem__(self, index: int) -> Sequence:
        return self._sequences[index]

    def push(self, sequence: Sequence) -> None:
        insort(self._sequences, sequence, key=_rank)

    def pop(self, index: int) -> Sequence:
        return self._sequences.pop(index)

    def remove(self, sequence: Sequence) -> None:
        del self._sequences[bisect_left(self._sequences, sequence.rank, key=_rank)]
