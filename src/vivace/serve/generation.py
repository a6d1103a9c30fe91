"""Runs the requests of one call on the engine, as one stream of deltas."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from vivace.core.errors import CapacityError, RequestError, VivaceError
from vivace.core.request import Delta, Request
from vivace.serve.errors import ENGINE_UNAVAILABLE, ApiError, overloaded, unavailable
from vivace.serve.interfaces import Engine
from vivace.serve.metrics import ServerMetrics


@dataclass
class Doors:
    """Whether a server takes calls; those that have begun go on.

    Attributes:
        draining: whether it takes none until it is told to.
        stopping: whether it takes none for good.
    """

    draining: bool = False
    stopping: bool = False

    def check_open(self) -> None:
        """Raises ApiError (503) where the server is stopping or drains."""
        if self.draining:
            raise ApiError(503, "The server drains; ask another.", code="server_draining")
        if self.stopping:
            raise ApiError(503, "The server is stopping; ask another.", code="server_stopping")


class Generation:
    """Streams requests through an engine and measures them.

    Attributes:
        last_token: when the engine last produced one, on the monotonic clock.
    """

    def __init__(self, engine: Engine, metrics: ServerMetrics, doors: Doors) -> None:
        self._doors = doors
        self.last_token = -math.inf
        self._engine = engine
        self._metrics = metrics
        self._running: set[str] = set()

    @property
    def running(self) -> int:
        """Requests of ours that the engine has."""
        return len(self._running)

    async def abort(self, call_id: str) -> int:
        """End the requests of the call that has this id in its answer; how many there were."""
        found = [one for one in self._running if (one.rpartition("/")[0] or one) == call_id]
        for request_id in found:
            await self._engine.abort(request_id)
        return len(found)

    async def abort_all(self) -> int:
        """End every request; how many there were."""
        found = list(self._running)
        for request_id in found:
            await self._engine.abort(request_id)
        return len(found)

    async def reset_prefix_cache(self) -> None:
        """Raises ApiError (503) where the engine is gone."""
        await self.check_engine()
        await self._engine.reset_prefix_cache()

    async def check_engine(self) -> None:
        """Raises ApiError (503) where the engine is dead or hung."""
        try:
            await self._engine.check_health()
        except VivaceError as error:
            raise unavailable(str(error)) from error

    async def run(self, requests: Sequence[Request]) -> AsyncGenerator[tuple[int, Delta], None]:
        """(place of the request, delta), as they come, until every request has finished.

        Closing it early aborts what still runs.

        Raises:
            ApiError: the engine refused a request (400), failed (500) or is gone (503), its queue
                is full (429), or the server is stopping (503); the other requests are aborted.
        """
        self._doors.check_open()
        await self.check_engine()
        call = self._metrics.watch_call(requests)
        streams = self._merged(requests) if len(requests) > 1 else self._single(requests[0])
        try:
            async with aclosing(streams) as deltas:
                async for place, delta in deltas:
                    call.saw(place, delta)
                    await self._refuse_error(delta)
                    yield place, delta
        finally:
            call.close()

    async def last(self, request: Request) -> Delta:
        """As `deltas`, the last of them."""
        return (await self.deltas(request))[-1]

    async def deltas(self, request: Request) -> list[Delta]:
        """Run a request that nobody measures, also while draining. Raises as `run`."""
        await self.check_engine()
        found = []
        async with aclosing(self._stream(request)) as deltas:
            async for delta in deltas:
                await self._refuse_error(delta)
                found.append(delta)
        return found

    async def unpin(self, pin_id: str) -> bool:
        """Let a pinned prefix be evicted again; False where the id is unknown."""
        await self.check_engine()
        known = pin_id in (await self._engine.stats()).pins
        await self._engine.unpin(pin_id)
        return known

    async def _refuse_error(self, delta: Delta) -> None:
        if delta.finish_reason != "error":
            return
        await self.check_engine()
        raise _failure(delta)

    async def _stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        if request.request_id in self._running:
            raise RequestError("The request_id is that of a call that runs.", "request_id")
        self._running.add(request.request_id)
        try:
            async with aclosing(self._engine.stream(request)) as deltas:
                async for delta in deltas:
                    if delta.token_ids:
                        self.last_token = time.monotonic()
                    yield delta
        finally:
            self._running.discard(request.request_id)

    async def _single(
        self, request: Request, place: int = 0
    ) -> AsyncGenerator[tuple[int, Delta], None]:
        watch = self._metrics.watch(request)
        try:
            async with aclosing(self._stream(request)) as deltas:
                async for delta in deltas:
                    watch.saw(delta)
                    yield place, delta
        finally:
            watch.close()

    async def _merged(self, requests: Sequence[Request]) -> AsyncGenerator[tuple[int, Delta], None]:
        # Bounded: what a client reads late waits in the engine's queues, where it is put together.
        merged: asyncio.Queue[tuple[int, Delta] | Exception] = asyncio.Queue(len(requests))

        async def pump(place: int, request: Request) -> None:
            try:
                async with aclosing(self._single(request, place)) as deltas:
                    async for item in deltas:
                        await merged.put(item)
            except Exception as error:
                await merged.put(error)

        tasks = [asyncio.create_task(pump(*numbered)) for numbered in enumerate(requests)]
        try:
            running = len(tasks)
            while running:
                item = await merged.get()
                if isinstance(item, Exception):
                    raise item
                running -= item[1].finish_reason is not None
                yield item
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _failure(delta: Delta) -> ApiError:
    message = delta.error or "The engine failed on this request."
    if delta.retry_after_seconds is not None:
        return overloaded(message, delta.retry_after_seconds)
    if delta.error_code == ENGINE_UNAVAILABLE:
        return unavailable(message)
    if delta.error_code == CapacityError.code:
        return ApiError(503, message, code=delta.error_code)
    status = 500 if delta.error_param is None else 400
    return ApiError(status, message, delta.error_param, delta.error_code)
