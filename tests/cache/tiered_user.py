"""A `PageUser` over host memory and disk, whose pages are bytes of the test's own."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from page_user import PAGE, PageUser

from vivace.cache.blocks import KVGroup, KVManager
from vivace.cache.chain import BlockChain
from vivace.cache.disk import DiskTier
from vivace.cache.disk_queue import DiskQueue
from vivace.cache.host import HostTier
from vivace.cache.tiers import PageTiers

_MARKS = struct.Struct(f"<{PAGE}q")
PAGE_BYTES = _MARKS.size


class LateExecutor(Executor):
    """Does what was submitted when the test says so."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting.append(lambda: future.set_result(fn(*args, **kwargs)))
        return future

    def work(self, count: int = 1_000_000) -> None:
        while self._waiting and count > 0:
            self._waiting.popleft()()
            count -= 1


class MarkMover:
    """Pages whose bytes are the marks of their positions."""

    bytes_per_second = 1e9

    def __init__(self, memory: dict[tuple[int, int, int], int], num_groups: int) -> None:
        self.page_bytes = (PAGE_BYTES,) * num_groups
        self._memory = memory

    def read(self, group: int, page: int) -> bytes:
        return _MARKS.pack(*(self._memory.get((group, page, at), 0) for at in range(PAGE)))

    def write(self, group: int, page: int, data: bytes) -> None:
        for at, mark in enumerate(_MARKS.unpack(data)):
            self._memory[group, page, at] = mark


class TieredUser(PageUser):
    """Args:
    folder: of the disk tier; None goes without.
    host_pages: capacity of host memory.
    disk_bytes: capacity of the folder.
    is_worth_it: as for `PageTiers`.
    """

    def __init__(
        self,
        groups: Sequence[KVGroup],
        folder: Path | None = None,
        host_pages: int = 100,
        disk_bytes: int = 2**20,
        longest: int = 0,
        is_worth_it: Callable[[int, int], bool] = lambda num_bytes, num_tokens: True,
    ) -> None:
        super().__init__(groups)
        self._groups = groups
        self._folder = folder
        self._host_pages = host_pages
        self._disk_bytes = disk_bytes
        self._longest = longest
        self._is_worth_it = is_worth_it
        self.restart()

    def restart(self, fingerprint: bytes = b"model") -> None:
        """A new process: only the files are still there."""
        self.live.clear()
        self._memory.clear()
        self.executor = LateExecutor()
        chain = BlockChain(fingerprint)
        disk = None
        if self._folder is not None:
            tier = DiskTier(self._folder, chain.fingerprint, self._disk_bytes)
            disk = DiskQueue(tier, self.executor, reading_bytes=2**20, patience=0.0)
        host = HostTier(self._host_pages * PAGE_BYTES)
        mover = MarkMover(self._memory, len(self._groups))
        self.tiers = PageTiers(mover, chain, host, disk, is_worth_it=self._is_worth_it)
        self.kv = KVManager(self._groups, PAGE, tiers=self.tiers, longest=self._longest)

    def write_everything_down(self) -> None:
        while self.kv.unwritten:
            self.kv.write_down(100)
            self.executor.work()
