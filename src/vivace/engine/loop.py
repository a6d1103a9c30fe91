"""Runs an engine for callers elsewhere: messages in, replies out, a step whenever there is work."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from vivace.core.errors import OverloadedError, RequestError, VivaceError
from vivace.core.request import Delta, Request
from vivace.core.stats import AdapterInfo, EngineStats
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
class Unpin:
    pin_id: str


@dataclass(frozen=True)
class ResetPrefixCache:
    pass


@dataclass(frozen=True)
class LoadAdapter:
    name: str
    path: str


@dataclass(frozen=True)
class UnloadAdapter:
    name: str


@dataclass(frozen=True)
class AdapterChange:
    """What became of a `LoadAdapter` or `UnloadAdapter`.

    Attributes:
        adapters: those that take requests now.
        error: why nothing changed; None where it did.
    """

    adapters: tuple[AdapterInfo, ...]
    error: VivaceError | None = None


@dataclass(frozen=True)
class Stop:
    pass


IDLE_SECONDS = 1.0  # without work before the books are checked
WRITE_SECONDS = 0.002  # without work between pages that are written down

Order: TypeAlias = Add | Abort | AskStats | Unpin | ResetPrefixCache | LoadAdapter | UnloadAdapter
Message: TypeAlias = Order | Stop
Reply: TypeAlias = list[Delta] | EngineStats | AdapterChange


class Channel(Protocol):
    """The engine's end of a line to its callers."""

    def receive(self, timeout: float | None) -> Iterable[Message]:
        """Messages that have come, or come within `timeout` seconds; None waits for one."""
        ...

    def send(self, reply: Reply) -> None: ...


def run(core: EngineCore, channel: Channel) -> None:
    """Serve a channel until `Stop`. Once idle, write pages down, and prove that none was lost.

    Raises:
        IntegrityError: the books of the pages are wrong; nothing can be trusted any more.
    """
    proved = True
    while True:
        messages = list(channel.receive(_patience(core, proved)))
        for message in messages:
            if isinstance(message, Stop):
                core.close()
                return
            _handle(core, message, channel)
        if core.has_work:
            channel.send(core.step())
            proved = False
        elif messages:
            continue
        elif core.unwritten:
            core.write_down()
        elif not proved:
            core.check_integrity()
            proved = True


def _patience(core: EngineCore, proved: bool) -> float | None:
    """Seconds to wait for a message before the next thing to do; None where there is none."""
    if core.has_work:
        return 0.0
    if core.unwritten:
        return WRITE_SECONDS
    return None if proved else IDLE_SECONDS


def _handle(core: EngineCore, message: Order, channel: Channel) -> None:
    if isinstance(message, Add):
        try:
            core.add(message.request)
        except (OverloadedError, RequestError) as error:
            channel.send([Delta.failed(message.request.request_id, error)])
        except Exception as error:  # one request must not cost the others
            logging.getLogger("vivace").exception("A request could not be taken.")
            core.abort(message.request.request_id)
            channel.send([Delta.failed(message.request.request_id, error)])
    elif isinstance(message, Abort):
        core.abort(message.request_id)
    elif isinstance(message, Unpin):
        core.unpin(message.pin_id)
    elif isinstance(message, ResetPrefixCache):
        core.reset_prefix_cache()
    elif isinstance(message, LoadAdapter | UnloadAdapter):
        channel.send(_change(core, message))
    else:
        channel.send(core.stats())


def _change(core: EngineCore, message: LoadAdapter | UnloadAdapter) -> AdapterChange:
    adapters = core.adapters
    try:
        if isinstance(message, LoadAdapter):
            adapters.load(message.name, message.path)
        else:
            adapters.unload(message.name)
    except VivaceError as error:
        return AdapterChange(adapters.infos, error)
    return AdapterChange(adapters.infos)
