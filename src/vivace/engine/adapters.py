"""The LoRA adapters of an engine: which slot each one has, and which requests use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vivace.backends.low_rank import AdapterRoom, LowRank
from vivace.backends.protocol import Backend
from vivace.core.config import check_module
from vivace.core.errors import CapacityError, RequestError, UsageError
from vivace.core.request import AdapterPlace, Request
from vivace.core.stats import AdapterInfo
from vivace.formats.peft import open_adapter
from vivace.models.adapters import adapter_parts, set_adapter
from vivace.models.decoder import Decoder


@dataclass(frozen=True)
class _Held:
    info: AdapterInfo
    place: AdapterPlace


@dataclass(frozen=True)
class _Read:
    """An adapter that is to be loaded."""

    info: AdapterInfo
    digest: str
    parts: Mapping[str, list[LowRank]]


class Adapters:
    """An adapter that is unloaded takes no further requests, and gives its slot back when the last
    of those that it has has ended.

    Args:
        room: None where the engine has none.
    """

    def __init__(self, room: AdapterRoom | None, decoder: Decoder, backend: Backend) -> None:
        self._room = room
        self._decoder = decoder
        self._backend = backend
        self._free = list(range(1, room.slots + 1)) if room else []
        self._by_name: dict[str, _Held] = {}  # as they were brought
        self._users: dict[str, _Held] = {}  # by request id

    @property
    def infos(self) -> tuple[AdapterInfo, ...]:
        """Of those that take requests."""
        return tuple(held.info for held in self._by_name.values())

    def load(self, name: str, path: str) -> None:
        """Take in an adapter; running requests wait while it is packed.

        Raises:
            UsageError: the engine has no room for adapters, or the name or path cannot be told.
            RequestError: the name is taken.
            CapacityError: all slots are taken, or there is no memory.
            CheckpointError: the adapter is damaged, not supported, or another model's.
        """
        if name in self._by_name:
            raise RequestError(
                f"The adapter {name!r} has already been loaded; unload it first.", "lora_name"
            )
        self._fill(self._read(name, path))

    def bring(self, name: str, path: str) -> None:
        """Have an adapter loaded: where all slots are taken, in place of the one brought longest
        ago of those that nobody uses.

        Raises:
            RequestError: another one has that name.
            As `load`, for the rest.
        """
        held = self._by_name.get(name)
        if held is None:
            read = self._read(name, path)
            if not self._free:
                self._make_way()
            self._fill(read)
        elif held.info.path == path:
            self._by_name[name] = self._by_name.pop(name)  # the last of them now
        else:
            raise RequestError(
                f"The adapter {name!r} was another one before; unload that first.", "lora_name"
            )

    def _read(self, name: str, path: str) -> _Read:
        room = self._need_room()
        check_module(name, path)
        adapter = open_adapter(Path(path))
        parts = adapter_parts(self._decoder.spec, adapter, room)
        rank = max(module.rank for module in adapter.modules.values())
        return _Read(AdapterInfo(name, path, rank), adapter.digest, parts)

    def _fill(self, read: _Read) -> None:
        if not self._free:
            raise CapacityError(
                f"There is room for {self._need_room().slots} adapters; unload one whose requests "
                "have ended, or raise max_loras."
            )
        slot, name = self._free[0], read.info.name
        try:
            set_adapter(self._backend, self._decoder, slot, read.parts)
        except MemoryError:
            set_adapter(self._backend, self._decoder, slot, {})  # no half of it stays
            raise CapacityError(f"There is no memory for the adapter {name!r}.") from None
        del self._free[0]
        self._by_name[name] = _Held(read.info, AdapterPlace(slot, read.digest))

    def _make_way(self) -> None:
        used = list(self._users.values())
        unused = (name for name, held in self._by_name.items() if held not in used)
        if (name := next(unused, None)) is not None:
            self.unload(name)

    def unload(self, name: str) -> None:
        """Take no further requests for an adapter.

        Raises:
            RequestError: there is none of that name.
        """
        if name not in self._by_name:
            raise _unknown(name)
        self._free_unused(self._by_name.pop(name))

    def bind(self, request: Request) -> Request:
        """The request with the place of the adapter that it names.

        Raises:
            RequestError: there is none of that name.
        """
        if request.adapter is None:
            return request
        held = self._by_name.get(request.adapter)
        if held is None:
            raise _unknown(request.adapter)
        return replace(request, adapter_place=held.place)

    def enter(self, request: Request) -> None:
        """A request that was bound is alive from now on."""
        if request.adapter is not None:
            self._users[request.request_id] = self._by_name[request.adapter]

    def leave(self, request_id: str) -> None:
        """A request has ended; of others nothing is known."""
        held = self._users.pop(request_id, None)
        if held is not None:
            self._free_unused(held)

    def _free_unused(self, held: _Held) -> None:
        if held in self._by_name.values() or held in self._users.values():
            return
        set_adapter(self._backend, self._decoder, held.place.slot, {})
        self._free.append(held.place.slot)

    def _need_room(self) -> AdapterRoom:
        if self._room is None:
            raise UsageError("This engine has no room for adapters; start it with enable_lora.")
        return self._room


def _unknown(name: str) -> RequestError:
    return RequestError(f"The adapter {name!r} is not loaded here.", "model", "model_not_found")
