"""Runs an engine for callers elsewhere: messages in, replies out, a step whenever there is work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from vivace.core.errors import OverloadedError, RequestError
from vivace.core.request import Delta, Request
from vivace.core.stats import EngineStats
from vivace.engine.core import EngineCore


@dataclass(frozen=True)
class Add:
    request: Request


@dataclass(frozen=True)
class Abort:
    request_id: str


@dataclass(frozen=True)
class AskStats:
    pass


@dataclass(frozen=True)
class Stop:
    pass


IDLE_SECONDS = 1.0  # without work before the books are checked

Message: TypeAlias = Add | Abort | AskStats | Stop
Reply: TypeAlias = list[Delta] | EngineStats


class Channel(Protocol):
    """The engine's end of a line to its callers."""

    def receive(self, timeout: float | None) -> Iterable[Message]:
        """Messages that have come, or come within `timeout` seconds; None waits for one."""
        ...

    def send(self, reply: Reply) -> None: ...


def run(core: EngineCore, channel: Channel) -> None:
    """Serve a channel until `Stop`. Once idle, prove that no page was lost.

    Raises:
        IntegrityError: the books of the pages are wrong; nothing can be trusted any more.
    """
    proved = True
    while True:
        idle = not core.has_work
        timeout = (None if proved else IDLE_SECONDS) if idle else 0.0
        messages = list(channel.receive(timeout))
        for message in messages:
            if isinstance(message, Stop):
                return
            _handle(core, message, channel)
        if core.has_work:
            channel.send(core.step())
            proved = False
        elif not messages and not proved:
            core.check_integrity()
            proved = True


def _handle(core: EngineCore, message: Add | Abort | AskStats, channel: Channel) -> None:
    if isinstance(message, Add):
        try:
            core.add(message.request)
        except RequestError as error:
            channel.send([Delta.failed(message.request.request_id, str(error))])
        except OverloadedError as error:
            wait = error.retry_after_seconds
            channel.send([Delta.failed(message.request.request_id, str(error), wait)])
    elif isinstance(message, Abort):
        core.abort(message.request_id)
    else:
        channel.send(core.stats())
