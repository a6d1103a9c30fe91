"""One engine in a spawned process, and the pipe to it."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from vivace.core.config import EngineConfig
from vivace.core.errors import BackendError
from vivace.core.stats import EngineInfo
from vivace.engine.loop import Message, Reply, Stop
from vivace.engine.notices import Notify
from vivace.engine.worker import Failed, Logged, Notice, serve_connection

STOP_SECONDS = 10.0

_log = logging.getLogger("vivace")


class EngineProcess:
    """Belongs to one event loop, on which what is given here is called.

    Args:
        config: what the engine loads.
        notify: called with lines about the progress of loading.
        deliver: called with each reply.
        lost: called once where the process ends unasked after it has loaded.
    """

    def __init__(
        self,
        config: EngineConfig,
        notify: Notify,
        deliver: Callable[[Reply], None],
        lost: Callable[[], None],
    ) -> None:
        self._notify = notify
        self._deliver = deliver
        self._lost = lost
        self._ended = False
        self._sender = ThreadPoolExecutor(max_workers=1, thread_name_prefix="to-engine")
        context = multiprocessing.get_context("spawn")
        self._connection, self._theirs = context.Pipe()
        self._process = context.Process(
            target=serve_connection, args=(config, self._theirs), daemon=True
        )

    async def start(self) -> EngineInfo:
        """Spawn it and wait until the model is loaded.

        Raises:
            VivaceError: what the engine could not do, as it said it.
        """
        self._process.start()
        self._theirs.close()
        info = await asyncio.to_thread(self._await_info)
        asyncio.get_running_loop().add_reader(self._connection.fileno(), self._receive)
        return info

    def send(self, message: Message) -> None:
        """A full pipe must not block the event loop, hence the thread."""
        if not self._ended:
            self._sender.submit(self._connection.send, message)

    def kill(self) -> None:
        """End it at once, whatever it does."""
        if self._process.pid is not None:
            self._process.kill()

    async def stop(self) -> None:
        """Let it end in order, or after a while at once; nobody is called any more."""
        if self._process.pid is not None:
            self._leave(Stop())
            await asyncio.to_thread(self._process.join, STOP_SECONDS)
            self._process.kill()  # a hung one reads nothing: what is being sent would wait for ever
            await asyncio.to_thread(self._process.join)
        await asyncio.to_thread(self._sender.shutdown)
        self._connection.close()

    def _leave(self, last: Message | None = None) -> None:
        if self._ended:
            return
        asyncio.get_running_loop().remove_reader(self._connection.fileno())
        if last is not None:
            self.send(last)
        self._ended = True

    def _await_info(self) -> EngineInfo:
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
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

    def _receive(self) -> None:
        try:
            while self._connection.poll():
                reply: Reply | Logged = self._connection.recv()
                if isinstance(reply, Logged):
                    _log.log(reply.level, reply.text)
                else:
                    self._deliver(reply)
        except (EOFError, OSError):
            self._leave()
            self._lost()
