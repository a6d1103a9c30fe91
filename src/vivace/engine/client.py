"""An engine in a spawned process of its own: HTTP never competes for its interpreter, and a hung
engine can be killed."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

from vivace.core.config import EngineConfig
from vivace.core.errors import BackendError, VivaceError
from vivace.core.request import Delta, Request
from vivace.core.stats import EngineInfo, EngineStats
from vivace.engine.loop import Message, Reply, Stop
from vivace.engine.notices import Notify
from vivace.engine.streams import Streams
from vivace.engine.worker import Failed, Logged, Notice, serve_connection

HANG_SECONDS = 120.0
STOP_SECONDS = 10.0


class EngineClient:
    """The engine's methods, awaited from one event loop.

    Args:
        config: what the engine loads.
        notify: called with lines about the progress of loading.
    """

    info: EngineInfo

    def __init__(self, config: EngineConfig, notify: Notify | None = None) -> None:
        self._config = config
        self._notify = notify or (lambda line: None)
        self._streams = Streams(self._send)
        self._sender = ThreadPoolExecutor(max_workers=1, thread_name_prefix="to-engine")
        self._heard = time.monotonic()
        self._gone: VivaceError | None = None
        self._connection: Connection
        self._process: multiprocessing.process.BaseProcess

    async def start(self) -> None:
        """Spawn the process and wait until the model is loaded.

        Raises:
            VivaceError: what the engine could not do, as it said it.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=serve_connection, args=(self._config, theirs), daemon=True
        )
        self._process.start()
        theirs.close()
        self.info = await asyncio.to_thread(self._await_info)
        asyncio.get_running_loop().add_reader(self._connection.fileno(), self._receive)

    def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """A request's deltas. Closing the iterator early aborts it within one step."""
        return self._streams.stream(request)

    async def abort(self, request_id: str) -> None:
        self._streams.abort(request_id)

    async def unpin(self, pin_id: str) -> None:
        """Let a pinned prefix be evicted again; unknown ids are ignored."""
        self._streams.unpin(pin_id)

    async def reset_prefix_cache(self) -> None:
        """Forget every computed prefix but those that are in use or pinned."""
        self._streams.reset_prefix_cache()

    async def stats(self) -> EngineStats:
        self._check_alive()
        return await self._streams.stats()

    async def check_health(self) -> None:
        """Raises:
        BackendError: the engine died, or has had work and said nothing for `HANG_SECONDS`.
        """
        self._check_alive()
        silent = time.monotonic() - self._heard
        if self._streams.num_open and silent > HANG_SECONDS:
            raise BackendError(f"The engine has made no progress for {silent:.0f} seconds.")

    def kill(self) -> None:
        """End a process that does not answer; its streams end with an error."""
        self._process.kill()

    async def close(self) -> None:
        """Stop the process; open streams end with an error."""
        if self._gone is None:
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
            self._send(Stop())
            self._lose(BackendError("The engine was stopped."))
        await asyncio.to_thread(self._sender.shutdown)
        await asyncio.to_thread(self._process.join, STOP_SECONDS)
        if self._process.is_alive():
            self._process.kill()
        self._connection.close()

    def _await_info(self) -> EngineInfo:
        while True:
            try:
                message = self._connection.recv()
            except EOFError:
                self._process.join()
                raise BackendError(
                    f"The engine process ended with exit code {self._process.exitcode} "
                    "before the model was loaded."
                ) from None
            if isinstance(message, Notice):
                self._notify(message.line)
            elif isinstance(message, Failed):
                raise message.error
            else:
                assert isinstance(message, EngineInfo)
                return message

    def _send(self, message: Message) -> None:
        """A full pipe must not block the event loop, hence the thread."""
        if self._gone is None:
            if not self._streams.num_open:
                self._heard = time.monotonic()
            self._sender.submit(self._connection.send, message)

    def _receive(self) -> None:
        try:
            while self._connection.poll():
                reply: Reply | Logged = self._connection.recv()
                self._heard = time.monotonic()
                if isinstance(reply, Logged):
                    logging.getLogger("vivace").log(reply.level, reply.text)
                else:
                    self._streams.deliver(reply)
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
            self._lose(BackendError("The engine process ended unexpectedly; restart the server."))

    def _lose(self, error: VivaceError) -> None:
        self._gone = error
        self._streams.fail(error)

    def _check_alive(self) -> None:
        if self._gone is not None:
            raise self._gone
