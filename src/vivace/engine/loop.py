"""Runs an engine for callers elsewhere: messages in, replies out, a step whenever there is work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from vivace.core.errors import RequestError
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


Message: TypeAlias = Add | Abort | AskStats | Stop
Reply: TypeAlias = list[Delta] | EngineStats


class Channel(Protocol):
    """The engine's end of a line to its callers."""

    def receive(self, wait: bool) -> Iterable[Message]:
        """Messages that have come; with `wait`, at least one."""
        ...

    def send(self, reply: Reply) -> None: ...


def run(core: EngineCore, channel: Channel) -> None:
    """Serve a channel until `Stop`."""
    while True:
        for message in channel.receive(wait=not core.has_work):
            if isinstance(message, Stop):
                return
            _handle(core, message, channel)
        if core.has_work:
            channel.send(core.step())


def _handle(core: EngineCore, message: Add | Abort | AskStats, channel: Channel) -> None:
    if isinstance(message, Add):
        try:
            core.add(message.request)
        except RequestError as error:
            channel.send([Delta.failed(message.request.request_id, str(error))])
    elif isinstance(message, Abort):
        core.abort(message.request_id)
    else:
        channel.send(core.stats())
