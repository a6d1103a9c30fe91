"""Bytes into and out of a backend's pages, and how fast they move."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from vivace.backends.protocol import Backend, KVCache


class PageMover(Protocol):
    """Pages of every KV group as bytes."""

    @property
    def page_bytes(self) -> Sequence[int]:
        """Bytes of a page, per group."""
        ...

    def read(self, group: int, page: int) -> bytes: ...

    def write(self, group: int, page: int, data: bytes) -> None: ...

    @property
    def bytes_per_second(self) -> float:
        """What was measured; infinite before anything moved."""
        ...


class BackendMover:
    """The pages of a backend's caches, one per KV group."""

    def __init__(
        self,
        backend: Backend,
        caches: Sequence[KVCache],
        page_bytes: Sequence[int],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._backend = backend
        self._caches = tuple(caches)
        self.page_bytes = tuple(page_bytes)
        self._clock = clock
        self._seconds = 0.0
        self._nbytes = 0

    @property
    def bytes_per_second(self) -> float:
        return self._nbytes / self._seconds if self._seconds else float("inf")

    def read(self, group: int, page: int) -> bytes:
        started = self._clock()
        data = self._backend.read_pages(self._caches[group], [page]).tobytes()
        self._count(len(data), started)
        return data

    def write(self, group: int, page: int, data: bytes) -> None:
        started = self._clock()
        pages = np.frombuffer(data, np.uint8)[None]
        self._backend.write_pages(self._caches[group], [page], pages)
        self._count(len(data), started)

    def _count(self, num_bytes: int, started: float) -> None:
        self._nbytes += num_bytes
        self._seconds += self._clock() - started
