"""Requests go out at their times, never too many at once, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from vivace.bench.drive import Clock, Drive

pytestmark = pytest.mark.tiny


@dataclass
class FakeTime:
    """Time that passes only while someone sleeps."""

    seconds: float = 100.0
    slept: list[float] = field(default_factory=list)

    def clock(self) -> Clock:
        return Clock(lambda: self.seconds, self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)
        self.seconds += seconds


def test_requests_are_sent_at_their_times() -> None:
    time = FakeTime()

    async def send(index: int, started: float) -> float:
        return time.seconds - started

    times = [0.0, 0.5, 0.5, 2.0]
    assert asyncio.run(Drive(send, clock=time.clock()).run(times)) == times
    assert time.slept == [0.5, 1.5]


def test_a_late_driver_catches_up_without_sleeping() -> None:
    time = FakeTime()

    async def send(index: int, started: float) -> None:
        time.seconds += 10

    asyncio.run(Drive(send, clock=time.clock()).run([1.0, 2.0, 3.0]))
    assert time.slept == [1.0, 1.0]  # the first was sent late, which makes the third late too


def test_no_more_at_once_than_allowed() -> None:
    active = most = 0

    async def send(index: int, started: float) -> int:
        nonlocal active, most
        active += 1
        most = max(most, active)
        for _ in range(10 - index):  # the first ones end last
            await asyncio.sleep(0)
        active -= 1
        return index

    results = asyncio.run(Drive(send, max_concurrency=3).run([0.0] * 10))
    assert results == list(range(10))
    assert most == 3
    asyncio.run(Drive(send).run([0.0] * 10))
    assert most == 10


def test_every_end_is_reported() -> None:
    reports: list[tuple[int, int]] = []

    async def send(index: int, started: float) -> None: ...

    drive = Drive(send, report=lambda done, total: reports.append((done, total)))
    asyncio.run(drive.run([0.0] * 3))
    assert reports == [(1, 3), (2, 3), (3, 3)]
