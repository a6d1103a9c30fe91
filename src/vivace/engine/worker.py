"""What the engine process runs: it loads, says what it loaded, and serves its connection."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

from vivace.core.config import EngineConfig
from vivace.core.errors import VivaceError
from vivace.engine import loop
from vivace.engine.build import build_engine


@dataclass(frozen=True)
class Notice:
    """A line about the progress of loading."""

    line: str


@dataclass(frozen=True)
class Failed:
    """Loading failed."""

    error: VivaceError


@dataclass(frozen=True)
class Logged:
    """What the engine logged, at one of logging's levels."""

    level: int
    text: str


class PipeChannel:
    """A `Channel` over a pipe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()  # the disk's thread may log

    def receive(self, timeout: float | None) -> Iterator[loop.Message]:
        while self._connection.poll(timeout):
            yield self._connection.recv()
            timeout = 0.0

    def send(self, reply: loop.Reply | Logged) -> None:
        with self._sending:
            self._connection.send(reply)


class PipeHandler(logging.Handler):
    """Leaves writing to the process at the other end: a full disk must not stop an engine."""

    def __init__(self, channel: PipeChannel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # nobody is there to read it
            self._channel.send(Logged(record.levelno, self.format(record)))


def serve_connection(config: EngineConfig, connection: Connection) -> None:
    """The process's main function. Signals that a whole group gets are the parent's business: it
    sends `Stop` once what runs has finished."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        core = build_engine(config, lambda line: connection.send(Notice(line)))
    except VivaceError as error:
        connection.send(Failed(error))
        return
    connection.send(core.info)
    channel = PipeChannel(connection)
    logging.getLogger().addHandler(PipeHandler(channel))
    try:
        loop.run(core, channel)
    except (EOFError, BrokenPipeError):
        return  # the parent is gone
