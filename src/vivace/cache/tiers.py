"""Where pages go that the device has no room for: host memory, then disk.

A page that the prefix tree evicts goes to host memory, and from there to disk; what is computed is
written down when the engine is idle. Each page is stored under its prefix's digest (chain.py): the
same prefix finds it again after any time, in another process too. (After the offloading of
LMCache: Liu et al., 2025, and of Mooncake: Qin et al., FAST 2025.)
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from vivace.cache.chain import BlockChain
from vivace.cache.disk_queue import DiskQueue
from vivace.cache.host import Entries, HostTier
from vivace.cache.mover import PageMover
from vivace.cache.prefix import PrefixNode
from vivace.cache.stored import PageKey, StoredPage
from vivace.core.stats import TierStats

_CLOSING_PAGES = 64  # written before the clock is looked at
_MAX_FRESH = 2**16  # nodes; the oldest of more are written only when they leave host memory


@dataclass
class TierCounters:
    """Pages since start, as in `TierStats`."""

    saved: int = 0
    restored: int = 0
    fetched: int = 0
    fetched_used: int = 0
    fetched_wasted: int = 0
    lost: int = 0


class PageTiers:
    """Host memory and disk below the device's pages.

    Args:
        mover: reads and writes the device's pages.
        chain: names prefixes.
        host: nothing else uses it.
        disk: None ends with host memory.
        is_worth_it: whether to keep so many bytes of so many tokens rather than compute them again.
    """

    def __init__(
        self,
        mover: PageMover,
        chain: BlockChain,
        host: HostTier,
        disk: DiskQueue | None = None,
        *,
        is_worth_it: Callable[[int, int], bool] = lambda num_bytes, num_tokens: True,
    ) -> None:
        self.mover = mover
        self.chain = chain
        self.host = host
        self.counters = TierCounters()
        self._disk = disk
        self._is_worth_it = is_worth_it
        self._fetched: set[PageKey] = set()
        # computed, and perhaps not on disk yet
        self._fresh: deque[PrefixNode] = deque(maxlen=_MAX_FRESH)

    @property
    def disk(self) -> DiskQueue | None:
        return self._disk

    def stats(self) -> TierStats:
        counts = TierStats(host_bytes=self.host.nbytes, **vars(self.counters))
        if self._disk is None:
            return counts
        disk = self._disk.disk
        lost = counts.lost + self._disk.dropped + disk.failed
        return replace(counts, disk_bytes=disk.nbytes, lost=lost, broken=disk.broken)

    # --- down ---

    def save(self, node: PrefixNode, group: int, page: int) -> None:
        """The device is about to give up this page of a node: swap it out, or let it be computed
        again, whichever is cheaper."""
        assert isinstance(node.key, tuple)
        key = PageKey(self.chain.of(node), group)
        if self.host.get(key) is not None:
            return
        if not self._is_worth_it(self.mover.page_bytes[group], len(node.key)):
            self.counters.lost += 1
            return
        self.counters.saved += 1
        self._keep(key, self._copy(node, group, page))

    def remember(self, node: PrefixNode) -> None:
        """A node was computed: it is to be written down when there is time."""
        if self._disk is not None:
            self._fresh.append(node)

    @property
    def unwritten(self) -> bool:
        """Whether computed pages may still have to be written down."""
        return bool(self._fresh)

    def write_down(self, max_pages: int) -> None:
        """Send about so many computed pages to disk; none while others are being written."""
        if self._disk is None or self._disk.is_writing:
            return
        while self._fresh and max_pages > 0:
            node = self._fresh.popleft()
            there = [(group, page) for group, page in enumerate(node.pages) if page is not None]
            for group, page in there:
                key = PageKey(self.chain.of(node), group)
                if key not in self._disk:
                    self._disk.write(key, self._copy(node, group, page))
                    max_pages -= 1

    def close(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Write down what is not on disk yet, for as long as that."""
        if self._disk is None:
            return
        end = clock() + seconds
        while self.unwritten and clock() < end:
            self.write_down(_CLOSING_PAGES)
            self._disk.settle(end - clock())
        for key, page in self.host.entries():
            self._disk.write(key, page)
        self._disk.settle(max(0.0, end - clock()))
        self._disk.close()

    def forget(self) -> None:
        """No page is found again."""
        self.host.clear()
        self._fetched.clear()
        self._fresh.clear()
        if self._disk is not None:
            self._disk.clear()

    def shrink(self, share: float) -> None:
        """Keep no more in host memory than that share of what is there now."""
        self._spill(self.host.shrink(share))

    # --- up ---

    def __contains__(self, key: PageKey) -> bool:
        return key in self.host or (self._disk is not None and key in self._disk)

    def want(self, key: PageKey) -> None:
        """A request that waits will need this page: have it in host memory."""
        if self.host.get(key) is None and self._disk is not None:
            self._disk.read(key, self.mover.page_bytes[key.group])

    def find(
        self, key: PageKey, parent: bytes, tokens: tuple[int, ...], may_wait: bool = False
    ) -> StoredPage | None:
        """The page of that block, if it is in host memory; `may_wait` for one on its way."""
        if self._disk is not None:
            if may_wait and key not in self.host:
                self._disk.await_read(key)
            for arrival in self._disk.arrived():
                self._take_in(*arrival)
        page = self.host.get(key)
        return page if page is not None and page.holds(parent, tokens) else None

    def was_on_disk(self, key: PageKey) -> bool:
        """Whether a page that was found had to be read, and was not used since."""
        return key in self._fetched

    def restore(self, key: PageKey, stored: StoredPage, page: int) -> None:
        """Copy a page that was found into one of the device."""
        self.mover.write(key.group, page, stored.data)
        self.counters.restored += 1
        if key in self._fetched:
            self._fetched.remove(key)
            self.counters.fetched_used += 1

    def _take_in(self, key: PageKey, page: StoredPage) -> None:
        if key in self.host:
            return
        self.counters.fetched += 1
        self._fetched.add(key)
        self._keep(key, page)

    def _keep(self, key: PageKey, page: StoredPage) -> None:
        self._spill(self.host.put(key, page))

    def _spill(self, gone: Entries) -> None:
        for key, page in gone:
            if key in self._fetched:
                self._fetched.remove(key)
                self.counters.fetched_wasted += 1
            if self._disk is None:
                self.counters.lost += 1
            else:
                self._disk.write(key, page)

    def _copy(self, node: PrefixNode, group: int, page: int) -> StoredPage:
        assert node.parent is not None
        assert isinstance(node.key, tuple)
        parent = self.chain.of(node.parent)
        return StoredPage(parent, node.key, self.mover.read(group, page))
