"""Reads and writes of the disk tier, in a thread beside the engine's."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Executor, Future, wait

from vivace.cache.disk import DiskTier
from vivace.cache.host import Entries
from vivace.cache.stored import PageKey, StoredPage

_WRITING_BYTES = 256 * 2**20  # what waits to be written; more is dropped, not held in memory


class DiskQueue:
    """Called from the engine's thread alone.

    Args:
        disk: only this uses it.
        executor: runs one call at a time, in order: so a page that is being written can be read.
        reading_bytes: what may be on its way up at once.
        patience: seconds to wait for a page on its way, where nobody else runs.

    Attributes:
        dropped: pages that were not written because too many others waited.
    """

    def __init__(
        self, disk: DiskTier, executor: Executor, reading_bytes: int, patience: float = 1.0
    ) -> None:
        self.disk = disk
        self.dropped = 0
        self._executor = executor
        self._patience = patience
        self._room = reading_bytes
        self._reads: OrderedDict[PageKey, tuple[Future[StoredPage | None], int]] = OrderedDict()
        self._writes: OrderedDict[PageKey, tuple[Future[bool], int]] = OrderedDict()

    @property
    def is_writing(self) -> bool:
        self._forget_written()
        return bool(self._writes)

    def __contains__(self, key: PageKey) -> bool:
        """Whether the page is on disk, or about to be."""
        return key in self.disk or key in self._writes

    def write(self, key: PageKey, page: StoredPage) -> None:
        self._forget_written()
        waiting = sum(num_bytes for _, num_bytes in self._writes.values())
        if key in self:
            return
        if waiting + page.nbytes > _WRITING_BYTES:
            self.dropped += 1
            return
        self._writes[key] = self._executor.submit(self.disk.write, key, page), page.nbytes

    def read(self, key: PageKey, num_bytes: int) -> bool:
        """Have a page of that size brought up; False where it is not here, or must wait."""
        if key in self._reads:
            return True
        if key not in self or num_bytes > self._room:
            return False
        self._room -= num_bytes
        self._reads[key] = self._executor.submit(self.disk.read, key), num_bytes
        return True

    def await_read(self, key: PageKey) -> None:
        """Wait, though not for ever, for a page that is on its way."""
        if key in self._reads:
            wait([self._reads[key][0]], self._patience)

    def arrived(self) -> Entries:
        """What has been read since the last call."""
        found = []
        while self._reads and next(iter(self._reads.values()))[0].done():
            key, (future, num_bytes) = self._reads.popitem(last=False)
            self._room += num_bytes
            page = future.result()
            if page is not None:
                found.append((key, page))
        return found

    def clear(self) -> None:
        """Forget every page, those on their way too."""
        self._room += sum(num_bytes for _, num_bytes in self._reads.values())
        self._reads.clear()
        self._executor.submit(self.disk.clear)  # behind what is being written

    def close(self) -> None:
        """What still waits is not done."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def settle(self, seconds: float) -> None:
        """Wait until everything is written, for as long as that."""
        wait([future for future, _ in self._writes.values()], seconds)

    def _forget_written(self) -> None:
        while self._writes and next(iter(self._writes.values()))[0].done():
            self._writes.popitem(last=False)
