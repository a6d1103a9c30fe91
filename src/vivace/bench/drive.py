"""Sending requests at their times, never more at once than asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, TypeVar

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Clock:
    """Attributes:
    now: seconds that only grow.
    sleep: waits for so many seconds.
    """

    now: Callable[[], float] = perf_counter
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True)
class Drive(Generic[ResultT]):
    """How requests are sent.

    Attributes:
        send: sends request number i; started is when the run began, by the clock.
        max_concurrency: requests beyond this many wait for one to end, their times gone by.
        report: called with (done, total) after each request.
    """

    send: Callable[[int, float], Awaitable[ResultT]]
    max_concurrency: int | None = None
    report: Callable[[int, int], None] | None = None
    clock: Clock = Clock()

    async def run(self, times: Sequence[float]) -> list[ResultT]:
        """Send one request at each of the times (ascending seconds); results in their order."""
        done = 0
        started = self.clock.now()
        limit = self._limit()

        async def one(index: int) -> ResultT:
            nonlocal done
            async with limit:
                result = await self.send(index, started)
            done += 1
            if self.report is not None:
                self.report(done, len(times))
            return result

        tasks = []
        for index, due in enumerate(times):
            if (wait := started + due - self.clock.now()) > 0:
                await self.clock.sleep(wait)
            tasks.append(asyncio.create_task(one(index)))
        return list(await asyncio.gather(*tasks))

    def _limit(self) -> AbstractAsyncContextManager[None]:
        if self.max_concurrency is None:
            return nullcontext()
        return asyncio.Semaphore(self.max_concurrency)
