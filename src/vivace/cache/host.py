"""The tier of pages in host memory."""

from __future__ import annotations

from collections import OrderedDict

from vivace.cache.stored import PageKey, StoredPage

Entries = list[tuple[PageKey, StoredPage]]


class HostTier:
    """Pages by key, within a bound; the least recently used give way.

    Args:
        capacity_bytes: what pages and reservations may take together.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.nbytes = 0  # pages and reservations
        self._reserved = 0
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
        if page.nbytes > self.capacity_bytes - self._reserved:
            return [(key, page)]
        self._pages[key] = page
        self.nbytes += page.nbytes
        return self._shrink()

    def reserve(self, num_bytes: int) -> Entries | None:
        """Set memory aside; returns what gave way, or None, and nothing changed, where there is
        not so much."""
        if num_bytes > self.capacity_bytes - self._reserved:
            return None
        self._reserved += num_bytes
        self.nbytes += num_bytes
        return self._shrink()

    def give_back(self, num_bytes: int) -> None:
        """Reserved memory is free again."""
        self._reserved -= num_bytes
        self.nbytes -= num_bytes

    def _shrink(self) -> Entries:
        gone = []
        while self.nbytes > self.capacity_bytes:
            key, page = self._pages.popitem(last=False)
            self.nbytes -= page.nbytes
            gone.append((key, page))
        return gone
