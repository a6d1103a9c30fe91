"""Brings prefixes up from the lower tiers: to host memory while a request waits, to the device when
it is opened."""

from __future__ import annotations

from collections.abc import Sequence

from vivace.cache.books import PageBooks
from vivace.cache.held import LowerBlock, SequencePages, Tier
from vivace.cache.prefix import PrefixNode, Scope
from vivace.cache.seen import none_seen
from vivace.cache.stored import PageKey, StoredPage
from vivace.cache.tiers import PageTiers


class PrefixFetcher:
    """Finds in the tiers what the books lack."""

    def __init__(self, books: PageBooks, tiers: PageTiers) -> None:
        self._books = books
        self._tiers = tiers

    def want(self, tokens: Sequence[int], scope: Scope) -> None:
        """A request with these tokens waits: have what it will find on disk read meanwhile.

        That is what a row sees behind the last block that any tier has.
        """
        if self._tiers.disk is None:
            return
        books, chain = self._books, self._tiers.chain
        size = books.page_tokens
        root = books.tree.root(scope)
        blocks = books.sharable_blocks(scope, len(tokens) - 1)
        path = books.known(tokens, root, 0, blocks)
        digests = [chain.of(path[-1] if path else root)]
        books.tree.prune(root)
        for block in range(len(path), blocks):
            digests.append(chain.after(digests[-1], tokens[block * size : (block + 1) * size]))
        keys = [
            [PageKey(digest, group) for digest in digests[1:]] for group in range(len(books.pools))
        ]
        end = max(self._num_known(of_group) for of_group in keys)
        for group, seen in enumerate(books.sights(scope)):
            for block, key in enumerate(keys[group][:end], len(path)):
                if seen.sees(block, (len(path) + end) * size):
                    self._tiers.want(key)

    def _num_known(self, keys: Sequence[PageKey]) -> int:
        """Up to which of them a lower tier has some."""
        return max((place for place, key in enumerate(keys, 1) if key in self._tiers), default=0)

    def bring_up(self, pages: SequencePages, may_wait: bool) -> None:
        """Go on with a sequence behind what it has computed, as far as host memory knows it.

        Does nothing where the device has no room for all of that.

        Args:
            may_wait: for pages that are on their way from disk.
        """
        books, blocks = self._books, self._found(pages, may_wait)
        start = pages.computed // books.page_tokens
        end = start + len(blocks)
        for seen, pool in zip(pages.sights, books.pools, strict=True):
            kept = sum(seen.sees(block, end * books.page_tokens) for block in range(start, end))
            if kept > pool.num_available:
                return
        if blocks:
            books.adopt(pages, blocks)

    def _found(self, pages: SequencePages, may_wait: bool) -> list[LowerBlock]:
        """Blocks behind the sequence's tail that a lower tier or the device has, so far as all
        that a row behind them sees is there. (As `PageBooks.known`, which looks at the device.)"""
        books, chain = self._books, self._tiers.chain
        size, digest = books.page_tokens, chain.of(pages.tail)
        node: PrefixNode | None = pages.tail
        found: list[LowerBlock] = []
        usable = 0
        missing, sights = [-1] * len(books.pools), pages.sights
        blocks = books.sharable_blocks(pages.scope, len(pages.tokens) - 1)
        for index in range(pages.computed // size, blocks):
            tokens = tuple(pages.tokens[index * size : (index + 1) * size])
            parent, digest = digest, chain.after(digest, tokens)
            node = None if node is None else node.children.get(tokens)
            stored: list[StoredPage | None] = []
            tier: Tier = "device"
            for group in range(len(books.pools)):
                there = node is not None and node.pages[group] is not None
                key = PageKey(digest, group)
                page = None if there else self._tiers.find(key, parent, tokens, may_wait)
                stored.append(page)
                if page is not None and tier != "disk":
                    tier = "disk" if self._tiers.was_on_disk(key) else "host"
                if not there and page is None:
                    missing[group] = index
            lacking = (group for group, last in enumerate(missing) if last == index)
            if any(sights[group].always(index) for group in lacking):
                break
            found.append(LowerBlock(tokens, tuple(stored), tier))
            if none_seen(sights, missing, (index + 1) * size):
                usable = len(found)
        return found[:usable]
