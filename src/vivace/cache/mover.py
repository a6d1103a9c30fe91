"""Bytes into and out of a backend's pages, and how fast they move."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from vivace.backends.protocol import Backend, KVCache, KVSpec
from vivace.cache.pool import page_bytes, pages_per_shared


class PageMover(Protocol):
    """Pages of every KV group as bytes: the pages of the books, each of which may be several of
    the backend (pool.py)."""

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
        groups: Sequence[KVSpec],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._backend = backend
        self._caches = tuple(caches)
        self.page_bytes = tuple(page_bytes(backend, groups))
        self._counts = tuple(pages_per_shared(groups))
        self._clock = clock
        self._seconds = 0.0
        self._nbytes = 0

    @property
    def bytes_per_second(self) -> float:
        return self._nbytes / self._seconds if self._seconds else float("inf")

    def read(self, group: int, page: int) -> bytes:
        started = self._clock()
        data = self._backend.read_pages(self._caches[group], self._ids(group, page)).tobytes()
        self._count(len(data), started)
        return data

    def write(self, group: int, page: int, data: bytes) -> None:
        started = self._clock()
        ids = self._ids(group, page)
        pages = np.frombuffer(data, np.uint8).reshape(len(ids), -1)
        self._backend.write_pages(self._caches[group], ids, pages)
        self._count(len(data), started)

    def _ids(self, group: int, page: int) -> range:
        """The backend's pages for one page of the books."""
        count = self._counts[group]
        return range(page * count, (page + 1) * count)

    def _count(self, num_bytes: int, started: float) -> None:
        self._nbytes += num_bytes
        self._seconds += self._clock() - started
