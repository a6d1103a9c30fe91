"""Which page holds which block of which sequence, in every KV group.

A block is a run of `page_tokens` positions; a page is memory for one block. A sequence has one
block table per group. Only full computed blocks are shared, through the prefix tree, and nothing
is written to a shared page: computing always goes on in a block of its own, so no page is ever
copied. What the device has no room for goes to lower tiers (tiers.py) and is found there again.
(Block tables and reference counts: Kwon et al., PagedAttention, SOSP 2023; the tree: Zheng et al.,
SGLang, NeurIPS 2024.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vivace.cache.books import KVGroup, PageBooks
from vivace.cache.fetch import PrefixFetcher
from vivace.cache.held import Ahead, Found, SequencePages
from vivace.cache.integrity import check_books
from vivace.cache.pins import Pins
from vivace.cache.prefix import PLAIN, PrefixUse, Scope
from vivace.cache.tiers import PageTiers
from vivace.core.sight import ALL, Sight
from vivace.core.stats import PageAges, TierStats

__all__ = ["Found", "KVGroup", "KVManager", "SequencePages"]


class KVManager:
    """The KV pages of all groups, and all sequences that hold some.

    Args:
        sharing: whether full pages are shared among equal prefixes.
        tiers: where pages go that the device has no room for.
        longest: tokens of the longest sequence; pins always leave room for one.
        sight: what its rows see.

    Attributes:
        groups: as given.
        pins: prefixes that stay on the device.
    """

    def __init__(
        self,
        groups: Sequence[KVGroup],
        page_tokens: int,
        sharing: bool = True,
        *,
        tiers: PageTiers | None = None,
        longest: int = 0,
        sight: Sight = ALL,
    ) -> None:
        self.groups = tuple(groups)
        self._sharing = sharing
        self._page_tokens = page_tokens
        tiers = tiers if sharing else None  # nothing could be found in them
        self._tiers = tiers
        self._books = PageBooks(groups, page_tokens, self._tiers)
        self._fetcher = None if tiers is None else PrefixFetcher(self._books, tiers)
        self.pins = Pins(self._books, longest, Scope(sight=sight))
        self._live: set[SequencePages] = set()

    @property
    def pages_total(self) -> int:
        return sum(pool.num_pages for pool in self._books.pools)

    @property
    def pages_used(self) -> int:
        """Pages that sequences and pins hold; idle ones of the prefix tree do not count."""
        return sum(pool.num_pages - pool.num_available for pool in self._books.pools)

    @property
    def pages_returned(self) -> int:
        """Pages given back since start. While it stands still, what did not fit does not fit."""
        return sum(pool.num_returned for pool in self._books.pools)

    def live_sequences(self) -> set[SequencePages]:
        """Allocated and not released."""
        return set(self._live)

    @property
    def ahead(self) -> Ahead:
        """What came of prefetches."""
        return self._books.ahead

    def most_used(self, count: int) -> list[PrefixUse]:
        """The prefixes on the device that saved most tokens."""
        return self._books.tree.most_used(count)

    def can_hold(self, num_tokens: int, scope: Scope = PLAIN) -> bool:
        """Whether a sequence of that many positions fits when it is alone with the pins."""
        return self.pins.leave_room_for(num_tokens, scope)

    def want(self, tokens: Sequence[int], scope: Scope = PLAIN) -> None:
        """A sequence of these tokens will be opened soon: bring up what disk has of it."""
        if self._fetcher is not None and scope.salt is not None:
            self._fetcher.want(tokens, scope)

    def known_tokens(self, tokens: Sequence[int], scope: Scope = PLAIN) -> int:
        """How many of these tokens a sequence opened now would find computed."""
        books, scope = self._books, self._scope(scope)
        root = books.tree.root(scope)
        blocks = books.sharable_blocks(scope, len(tokens) - 1)  # one token is left to compute
        known = len(books.known(tokens, root, 0, blocks)) * self._page_tokens
        books.tree.prune(root)
        return known

    def allocate(
        self,
        tokens: Sequence[int],
        scope: Scope = PLAIN,
        spare: int = 0,
        *,
        reuses: bool = True,
        ahead: bool = False,
    ) -> SequencePages | None:
        """Open a sequence, sharing the pages of its longest known prefix in its scope; a sequence
        that is to be computed whole (not `reuses`) gives without taking, and one that is computed
        for others (`ahead`) is no use of what it finds.

        What lower tiers know of the prefix is copied to new pages; where no other sequence is open,
        what is on its way from disk is waited for. Takes no other page; but there is room for all
        tokens given, with `spare` pages left over of each group without a window. None, and nothing
        changed, where there is not.
        """
        books, scope = self._books, self._scope(scope)
        root = books.tree.root(scope)
        blocks = books.sharable_blocks(scope, len(tokens) - 1)  # one token is left to compute
        path = books.known(tokens, root, 0, blocks) if reuses else []
        if not books.has_room(len(tokens), root, path, spare):
            books.tree.prune(root)
            return None
        pages = books.open(tokens, scope)
        pages.ahead = ahead
        books.share(pages, path)
        if scope.salt is not None and reuses and self._fetcher is not None:
            self._fetcher.want(tokens, scope)
            self._fetcher.bring_up(pages, may_wait=not self._live)
        if pages.computed:
            books.tree.count_hit(pages.tail)
        self._live.add(pages)
        return pages

    def catch_up(self, pages: SequencePages) -> int:
        """Share what others have computed of this sequence since it was opened, or what has come
        up from disk.

        Raises `computed`, replaces table entries from the first block that is not full on.
        Returns by how many tokens `computed` rose.
        """
        before, block = pages.computed, pages.computed // self._page_tokens
        end = self._books.sharable_blocks(pages.scope, len(pages.tokens) - 1)
        if end <= block:
            return 0
        known = self._books.known(pages.tokens, pages.tail, block, end)
        self._books.share(pages, known)
        if self._fetcher is not None:
            self._fetcher.bring_up(pages, may_wait=False)
        if pages.computed > before:
            self._books.tree.count_hit(pages.tail)
        return pages.computed - before

    def extend(self, pages: SequencePages, end: int) -> int:
        """Make room for positions up to `end`, or for as many as there are pages for.

        Takes new pages and evicts idle ones for them. Returns the position up to which there is
        room now, at most `end`.
        """
        if end <= len(pages.tables[0]) * self._page_tokens:
            return end
        books = self._books
        blocks = -(-end // self._page_tokens)
        for group, table in enumerate(pages.tables):
            blocks = min(blocks, len(table) + books.pools[group].num_available)
        for group, table in enumerate(pages.tables):
            while len(table) < blocks:
                table.append(books.take(group))
        return min(end, blocks * self._page_tokens)

    def commit(self, pages: SequencePages, end: int) -> None:
        """Positions up to `end` are computed now, which is nowhere behind a cut that begins before
        it; share the blocks that this made full, and give back pages that no later row sees.

        A block that another sequence shared first is replaced by that one's page.
        """
        self._books.merge(pages, end)
        pages.computed = end
        for group in range(len(pages.tables)):
            self._books.slide(pages, group, end)
        if end == pages.scope.sight.cut:
            self._books.part(pages)

    def release(self, pages: SequencePages) -> None:
        """Give back all pages. The tables keep their entries: a step under way may read them.

        Raises:
            KeyError: it was released before.
        """
        self._live.remove(pages)
        self._books.cut(pages, 0)
        self._books.leave(pages)

    def forget_prefixes(self) -> None:
        """Nothing computed so far is found again, in no tier, but what live sequences and pins
        hold."""
        self._books.forget_idle()
        if self._tiers is not None:
            self._tiers.forget()

    def shrink(self, share: float) -> list[list[int]]:
        """Memory has run out: give up that share of the pages for good, but none that is held and
        none that the longest sequence needs; likewise in host memory. Returns them, per group."""
        given_up = []
        for group, pool in enumerate(self._books.pools):
            spare = pool.num_pages - self.pins.least_pages(group)
            count = min(int(share * pool.num_pages), max(0, spare))
            given_up.append(self._books.retire(group, count))
        if self._tiers is not None:
            self._tiers.shrink(1 - share)
        return given_up

    @property
    def unwritten(self) -> bool:
        """Whether `write_down` has something to do."""
        return self._tiers is not None and self._tiers.unwritten

    def write_down(self, max_pages: int) -> None:
        """Copy about so many computed pages to disk."""
        if self._tiers is not None:
            self._tiers.write_down(max_pages)

    def close(self, seconds: float) -> None:
        """Write down what is not on disk yet, for as long as that."""
        if self._tiers is not None:
            self._tiers.close(seconds)

    def tier_stats(self) -> TierStats:
        return TierStats() if self._tiers is None else self._tiers.stats()

    def page_ages(self) -> PageAges:
        return self._books.ages.stats()

    def check_integrity(self) -> None:
        """Prove the books: every page is free, idle, or held as often as it counts, and the prefix
        tree, the sequences and the pins agree on who holds what.

        Raises:
            IntegrityError: they do not.
        """
        check_books(self._books, [*self._live, *self.pins.holders()])

    def _scope(self, scope: Scope) -> Scope:
        return scope if self._sharing else replace(scope, salt=None)
