"""The callers' end: one queue per request, fed by the engine's replies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

from vivace.core.errors import RequestError
from vivace.core.request import Delta, Request
from vivace.core.stats import AdapterInfo, EngineStats
from vivace.engine.delta_queue import DeltaQueue
from vivace.engine.kept_pins import KeptPins
from vivace.engine.loop import (
    Abort,
    AdapterChange,
    Add,
    AskStats,
    LoadAdapter,
    Message,
    Reply,
    ResetPrefixCache,
    UnloadAdapter,
    Unpin,
)

MAX_ASKED = 3  # times that a request may be asked of engines that are lost


@dataclass
class _Open:
    """A stream that has not ended.

    Attributes:
        begun: whether anything was heard of it.
        asked: how often it was asked of an engine.
    """

    request: Request
    queue: DeltaQueue = field(default_factory=DeltaQueue)
    begun: bool = False
    asked: int = 1


class Streams:
    """Belongs to one event loop; `deliver` must be called on it.

    Args:
        send: hands a message to the engine; must not block.

    Attributes:
        pins: what was pinned and not unpinned since.
    """

    def __init__(self, send: Callable[[Message], None]) -> None:
        self.pins = KeptPins()
        self._send = send
        self._open: dict[str, _Open] = {}
        self._asking: list[asyncio.Future[Any]] = []  # answered in this order
        self._gone: Exception | None = None

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """A request's deltas. Closing the iterator early aborts the request.

        Raises:
            RequestError: its id is that of an open stream.
        """
        if self._gone is not None:
            yield Delta.failed(request.request_id, self._gone)
            return
        if request.request_id in self._open:
            raise RequestError(f"request_id {request.request_id!r} is in use.", "request_id")
        self._send(Add(request))
        queue = (self._open.setdefault(request.request_id, _Open(request))).queue
        finished = False
        try:
            while not finished:
                delta = await queue.get()
                finished = delta.finish_reason is not None
                yield delta
        finally:
            del self._open[request.request_id]
            if not finished:
                self._send(Abort(request.request_id))

    def abort(self, request_id: str) -> None:
        """End a request from outside; its stream sees a last delta."""
        self._send(Abort(request_id))
        self._put(Delta(request_id, finish_reason="abort"))

    def unpin(self, pin_id: str) -> None:
        for request in self.pins.remove(pin_id):
            self._send(Abort(request.request_id))
        self._send(Unpin(pin_id))

    def reset_prefix_cache(self) -> None:
        self._send(ResetPrefixCache())

    async def stats(self) -> EngineStats:
        stats: EngineStats = await self._ask(AskStats())
        return stats

    async def change_adapters(self, change: LoadAdapter | UnloadAdapter) -> tuple[AdapterInfo, ...]:
        """The adapters that take requests then.

        Raises:
            VivaceError: why it could not be done.
        """
        done: AdapterChange = await self._ask(change)
        if done.error is not None:
            raise done.error
        return done.adapters

    async def _ask(self, message: Message) -> Any:
        if self._gone is not None:
            raise self._gone
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asking.append(future)
        self._send(message)
        return await future

    def deliver(self, reply: Reply) -> None:
        """Hand a reply to whoever waits for it. Deltas of ended streams are dropped."""
        if not isinstance(reply, list):
            future = self._asking.pop(0)
            if not future.done():
                future.set_result(reply)
            return
        for delta in reply:
            self._put(delta)

    def fail(self, error: Exception) -> None:
        """The engine is gone for good: end every stream, and those that will be opened."""
        self._gone = error
        for request_id in self._open:
            self._put(Delta.failed(request_id, error))
        self._refuse_asking(error)

    def interrupt(self, error: Exception) -> None:
        """The engine is gone, and another will come: end the streams that have begun, for nobody
        can go on with them, and those that have outlived several engines and may be why."""
        for request_id, one in self._open.items():
            if one.begun or one.asked >= MAX_ASKED:
                self._put(Delta.failed(request_id, error))
        self._refuse_asking(error)

    def ask_again(self) -> None:
        """Another engine has come: it gets what was pinned, and what was not begun."""
        for request in self.pins:
            self._send(Add(request))
        for one in self._open.values():
            if not one.begun:
                one.asked += 1
                self._send(Add(one.request))

    def _refuse_asking(self, error: Exception) -> None:
        for future in self._asking:
            if not future.done():
                future.set_exception(error)
        self._asking.clear()

    def _put(self, delta: Delta) -> None:
        one = self._open.get(delta.request_id)
        if one is None:
            self.pins.saw(delta)
            return
        self.pins.ended(one.request, delta.finish_reason)
        one.begun = True
        one.queue.put(delta)
