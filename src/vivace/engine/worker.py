"""What the engine process runs: it loads, says what it loaded, and serves its connection."""

from __future__ import annotations

import signal
from collections.abc import Iterator
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


class PipeChannel:
    """A `Channel` over a pipe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def receive(self, timeout: float | None) -> Iterator[loop.Message]:
        while self._connection.poll(timeout):
            yield self._connection.recv()
            timeout = 0.0

    def send(self, reply: loop.Reply) -> None:
        self._connection.send(reply)


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
    try:
        loop.run(core, PipeChannel(connection))
    except (EOFError, BrokenPipeError):
        return  # the parent is gone
