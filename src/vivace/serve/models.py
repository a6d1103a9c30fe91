"""Several models under names: each is loaded when it is asked for, and the least recently used ones
are unloaded where it has no place."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

from vivace.core.errors import CapacityError, VivaceError
from vivace.serve.errors import ApiError
from vivace.serve.generation import Doors
from vivace.serve.served import Served

FAILED_SECONDS = 10.0  # before what could not be loaded is tried again
State = Literal["unloaded", "loading", "loaded"]

_STARTED = int(time.time())

# Starts a model by its name, within so many bytes; None is no limit. Raises VivaceError.
Start: TypeAlias = Callable[[str, int | None], Awaitable[Served]]
Stop: TypeAlias = Callable[[Served], Awaitable[None]]


@dataclass(frozen=True)
class ModelLimits:
    """Attributes:
    max_loaded: models that are loaded at once; None is all of them.
    memory_bytes: what all of them may take together; None is what the machine has.
    wait_seconds: how long a call waits for its model.
    """

    max_loaded: int | None = None
    memory_bytes: int | None = None
    wait_seconds: float = 120.0


class _NotWantedError(Exception):
    """Nobody waits for a model any more."""


@dataclass(eq=False)
class _Entry:
    """Attributes:
    users: calls that have it, or wait for it; it is not unloaded meanwhile.
    last_used: on the monotonic clock.
    failure: why it could not be loaded, and until when that counts.
    load_seconds: what loading took last.
    known: the adapters that it had when it was unloaded; it will have them again.
    """

    name: str
    served: Served | None = None
    loading: asyncio.Task[Served] | None = None
    users: int = 0
    last_used: float = 0.0
    failure: tuple[VivaceError, float] | None = None
    load_seconds: float = 1.0
    known: tuple[str, ...] = ()

    @property
    def state(self) -> State:
        if self.served is not None:
            return "loaded"
        return "unloaded" if self.loading is None else "loading"

    @property
    def adapters(self) -> tuple[str, ...]:
        return self.known if self.served is None else self.served.names.adapters

    @property
    def cards(self) -> list[dict[str, Any]]:
        """OpenAI's model objects: the model, with its adapters behind it."""
        if self.served is not None:
            return [{**card, "state": self.state} for card in self.served.names.cards()]
        return [
            {
                "id": name,
                "object": "model",
                "created": _STARTED,
                "owned_by": "vivace",
                "parent": None if name == self.name else self.name,
                "state": self.state,
            }
            for name in (self.name, *self.known)
        ]


class Models:
    """Belongs to one event loop.

    Args:
        names: of the models; calls that name none mean the first.
        start, stop: make and end the engine of one.
        doors: while they are closed, nothing is loaded.
    """

    def __init__(
        self,
        names: Sequence[str],
        start: Start,
        stop: Stop,
        limits: ModelLimits,
        doors: Doors,
    ) -> None:
        self.doors = doors
        self._entries = {name: _Entry(name) for name in names}
        self._default = self._entries[names[0]]
        self._start = start
        self._stop = stop
        self._limits = limits
        self._placing = asyncio.Lock()  # one at a time: what it leaves free the next may have
        self._released = asyncio.Event()

    @classmethod
    def of_one(cls, served: Served, doors: Doors) -> Models:
        """One that is loaded and stays so; its engine is somebody else's to end."""

        async def start(name: str, memory_bytes: int | None) -> Served:
            return served

        async def stop(one: Served) -> None:
            pass

        models = cls([served.names.model], start, stop, ModelLimits(), doors)
        models._default.served = served
        return models

    async def start(self) -> None:
        """Load the first model, however long it takes. Raises VivaceError where it cannot be."""
        await self._load(self._default)

    @property
    def default(self) -> str:
        """The model of calls that name none."""
        return self._default.name

    @property
    def loaded(self) -> list[Served]:
        return [one.served for one in self._entries.values() if one.served is not None]

    @property
    def running(self) -> int:
        """Requests of ours that the engines have."""
        return sum(served.generation.running for served in self.loaded)

    @property
    def names(self) -> frozenset[str]:
        """Of models and adapters."""
        entries = self._entries.values()
        return frozenset(name for entry in entries for name in (entry.name, *entry.adapters))

    @property
    def states(self) -> dict[str, State]:
        return {name: entry.state for name, entry in self._entries.items()}

    def cards(self) -> list[dict[str, Any]]:
        """OpenAI's model objects: each model, with its adapters behind it."""
        return [card for entry in self._entries.values() for card in entry.cards]

    def card(self, asked: str) -> dict[str, Any]:
        """Raises ApiError (404) where it is not served here."""
        return next(card for card in self._entry(asked).cards if card["id"] == asked)

    async def lend(self, asked: str | None) -> tuple[Served, Callable[[], None]]:
        """A model that is loaded, or will be before this returns, and what gives it back: until
        then it is not unloaded.

        Raises:
            ApiError: it is not served here (404), does not get its place in time, or the server is
                closing (503).
            VivaceError: it could not be loaded.
        """
        entry = self._default if asked is None else self._entry(asked)
        entry.users += 1
        try:
            served = await self._served(entry)
        except BaseException:
            self._give_back(entry)
            raise
        return served, partial(self._give_back, entry)

    async def close(self) -> None:
        """End all engines, those that are being loaded too."""
        loading = [one.loading for one in self._entries.values() if one.loading is not None]
        for task in loading:
            task.cancel()
        await asyncio.gather(*loading, return_exceptions=True)
        for entry in self._entries.values():
            await self._unload(entry)

    def _entry(self, asked: str) -> _Entry:
        for name, entry in self._entries.items():
            if asked == name or asked in entry.adapters:
                return entry
        served = ", ".join(map(repr, sorted(self.names)))
        raise ApiError(
            404,
            f"The model {asked!r} does not exist here; this server has {served}.",
            "model",
            "model_not_found",
        )

    async def _served(self, entry: _Entry) -> Served:
        if entry.served is not None:
            return entry.served
        self.doors.check_open()
        if entry.failure is not None and time.monotonic() < entry.failure[1]:
            raise entry.failure[0]
        if entry.loading is None:
            entry.loading = asyncio.create_task(self._load(entry))
            entry.loading.add_done_callback(_retrieved)
        waits = asyncio.shield(entry.loading)  # who gives up does not end it for the others
        try:
            return await asyncio.wait_for(waits, self._limits.wait_seconds)
        except asyncio.TimeoutError:
            seconds = str(math.ceil(entry.load_seconds))
            raise ApiError(
                503,
                f"The model {entry.name!r} is not loaded yet; ask again later.",
                "model",
                "model_loading",
                {"retry-after": seconds},
            ) from None

    async def _load(self, entry: _Entry) -> Served:
        try:
            async with self._placing:
                await self._find_place(entry)
                started = time.monotonic()
                entry.served = await self._start_in_memory(entry)
                entry.load_seconds = time.monotonic() - started
                entry.failure = None
                return entry.served
        except VivaceError as error:
            entry.failure = error, time.monotonic() + FAILED_SECONDS
            raise
        finally:
            entry.loading = None

    async def _find_place(self, entry: _Entry) -> None:
        """Unload others until one more may be there, and wait for those in use."""
        most = self._limits.max_loaded or math.inf
        while len(self.loaded) >= most and not await self._unload_one():
            await self._wait_for_release(entry)

    async def _start_in_memory(self, entry: _Entry) -> Served:
        """In what memory the others leave; who is not in use leaves it where it must."""
        while self.loaded:
            with suppress(CapacityError):
                return await self._start(entry.name, self._free_bytes)
            while self.loaded and not await self._unload_one():
                await self._wait_for_release(entry)
        return await self._start(entry.name, self._free_bytes)

    async def _wait_for_release(self, entry: _Entry) -> None:
        self._released.clear()
        await self._released.wait()
        if not entry.users:
            raise _NotWantedError

    async def _unload_one(self) -> bool:
        """The least recently used model that nobody uses; False where there is none."""
        idle = [one for one in self._entries.values() if one.served is not None and not one.users]
        if not idle:
            return False
        await self._unload(min(idle, key=lambda one: one.last_used))
        return True

    async def _unload(self, entry: _Entry) -> None:
        entry.known = entry.adapters
        served, entry.served = entry.served, None
        if served is not None:
            await self._stop(served)

    @property
    def _free_bytes(self) -> int | None:
        limit = self._limits.memory_bytes
        taken = sum(served.engine.info.memory_bytes for served in self.loaded)
        return None if limit is None else max(limit - taken, 0)

    def _give_back(self, entry: _Entry) -> None:
        entry.users -= 1
        entry.last_used = time.monotonic()
        self._released.set()


def _retrieved(task: asyncio.Task[Served]) -> None:
    """Whoever waited was told; nobody may have."""
    if not task.cancelled():
        task.exception()
