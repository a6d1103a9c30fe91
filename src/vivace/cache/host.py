"""The tier of pages in host memory."""

from __future__ import annotations

from collections import OrderedDict

from vivace.cache.stored import PageKey, StoredPage

Entries = list[tuple[PageKey, StoredPage]]


class HostTier:
    """Pages by key, within a bound; the least recently used give way.

    Args:
        capacity_bytes: what they may take together.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.nbytes = 0
        self._pages: OrderedDict[PageKey, StoredPage] = OrderedDict()

    def __contains__(self, key: PageKey) -> bool:
        return key in self._pages

    def __len__(self) -> int:
        return len(self._pages)

    def get(self, key: PageKey) -> StoredPage | None:
        """The page, which counts as used now."""
        page = self._pages.get(key)
        if page is not None:
            self._pages.move_to_end(key)
        return page

    def entries(self) -> Entries:
        """Every page, the least recently used first."""
        return list(self._pages.items())

    def put(self, key: PageKey, page: StoredPage) -> Entries:
        """Keep a page that is new here; returns what gave way, itself where it can never fit."""
        if page.nbytes > self.capacity_bytes:
            return [(key, page)]
        self._pages[key] = page
        self.nbytes += page.nbytes
        return self._make_room()

    def shrink(self, share: float) -> Entries:
        """Hold no more than that share of what it holds now; returns what gave way."""
        self.capacity_bytes = int(share * self.nbytes)
        return self._make_room()

    def clear(self) -> None:
        self._pages.clear()
        self.nbytes = 0

    def _make_room(self) -> Entries:
        gone = []
        while self.nbytes > self.capacity_bytes:
            key, page = self._pages.popitem(last=False)
            self.nbytes -= page.nbytes
            gone.append((key, page))
        return gone
