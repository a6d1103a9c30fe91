"""The pages of one KV group: who holds them, which are free, which wait to be found again."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Sequence

from vivace.cache.ages import AgeTally
from vivace.cache.prefix import IntegrityError, PrefixNode


class PagePool:
    """Reference-counted pages. Every page is in exactly one of four states.

    free: nobody holds it and its content is worth nothing.
    held: `refs` sequences hold it; the prefix tree may know it too.
    idle: nobody holds it, but the prefix tree knows it; the longest idle is evicted first.
    retired: it is never used again.

    Args:
        ages: is told how long pages were of use.
    """

    def __init__(self, num_pages: int, ages: AgeTally) -> None:
        self.num_ids = num_pages
        self._ages = ages
        self._taken = [0.0] * num_pages  # seconds on the clock of `ages`
        self._used = [0.0] * num_pages
        self.num_returned = 0  # pages that left `held`, since start
        self._refs = [0] * num_pages
        self._nodes: list[PrefixNode | None] = [None] * num_pages
        self._free = list(range(num_pages - 1, -1, -1))
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._retired: set[int] = set()

    @property
    def num_pages(self) -> int:
        """Pages that can be used; their numbers are below `num_ids`."""
        return self.num_ids - len(self._retired)

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_available(self) -> int:
        """Pages that `take` can give, evicting idle ones."""
        return len(self._free) + len(self._idle)

    @property
    def num_known(self) -> int:
        """Pages that the prefix tree knows."""
        return sum(node is not None for node in self._nodes)

    def node(self, page: int) -> PrefixNode | None:
        """Where the prefix tree knows the page, or None."""
        return self._nodes[page]

    def refs(self, page: int) -> int:
        return self._refs[page]

    def take(self) -> int:
        """A free page, now held once."""
        page = self._free.pop()
        self._refs[page] = 1
        self._taken[page] = self._ages.clock()
        return page

    def hold(self, page: int) -> None:
        """One more sequence holds a page that the prefix tree knows."""
        if self._refs[page] == 0:
            del self._idle[page]
            self._ages.reused(self._ages.clock() - self._used[page])
        self._refs[page] += 1

    def drop(self, page: int) -> None:
        """One sequence less holds the page; the last one leaves it idle or free."""
        self._refs[page] -= 1
        if self._refs[page] > 0:
            return
        self.num_returned += 1
        if self._nodes[page] is None:
            self._free.append(page)
        else:
            self._idle[page] = None
            self._used[page] = self._ages.clock()

    def keep(self, page: int, node: PrefixNode) -> None:
        """The prefix tree knows this held page from now on."""
        self._nodes[page] = node

    def evict(self, page: int) -> None:
        """As `forget`, because another needs the page."""
        now = self._ages.clock()
        self._ages.evicted(now - self._taken[page], now - self._used[page])
        self.forget(page)

    def forget(self, page: int) -> None:
        """The prefix tree knows this idle page no more: it is free."""
        del self._idle[page]
        self._nodes[page] = None
        self._free.append(page)

    def retire(self, count: int) -> list[int]:
        """Never use so many free pages again, the last ones: neighbours as far as can be, for a
        system that takes memory back in larger pieces. Returns them."""
        pages = heapq.nlargest(count, self._free)
        self._retired.update(pages)
        self._free = [page for page in self._free if page not in self._retired]
        return pages

    def longest_idle(self) -> PrefixNode:
        """The node of the page to evict first. Raises StopIteration where no page is idle."""
        node = self._nodes[next(iter(self._idle))]
        assert node is not None
        return node

    @property
    def num_idle(self) -> int:
        return len(self._idle)

    def check_integrity(self, holders: Sequence[int]) -> None:
        """Raises IntegrityError if a page is leaked, free twice, or counted wrong.

        Args:
            holders: per page, how many sequences really hold it.
        """
        free = set(self._free)
        if len(free) != len(self._free):
            raise IntegrityError("A page is free twice.")
        for page, (refs, node) in enumerate(zip(self._refs, self._nodes, strict=True)):
            if refs != holders[page]:
                raise IntegrityError(f"Page {page} counts {refs} holders, has {holders[page]}.")
            states = page in free, page in self._idle, page in self._retired, refs > 0
            if sum(states) != 1:
                raise IntegrityError(f"Page {page} is leaked or in two states.")
            if (page in free and node is not None) or (page in self._idle and node is None):
                raise IntegrityError(f"Page {page}: the prefix tree and its state disagree.")
