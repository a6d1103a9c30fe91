"""Which page holds which block of which sequence, in every KV group.

A block is a run of `page_tokens` positions; a page is memory for one block. A sequence has one
block table per group. Only full computed blocks are shared, through the prefix tree, and nothing
is written to a shared page: computing always goes on in a block of its own, so no page is ever
copied. (Block tables and reference counts: Kwon et al., PagedAttention, SOSP 2023; the tree:
Zheng et al., SGLang, NeurIPS 2024.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vivace.cache.pages import PagePool
from vivace.cache.prefix import IntegrityError, PrefixNode, PrefixTree


class KVGroup(NamedTuple):
    """Attributes:
    num_pages: pages in the group's pool.
    window: how many last positions a row sees, itself included; None sees all.
    """

    num_pages: int
    window: int | None = None


class SequencePages:
    """What one sequence holds. Only `KVManager` changes it; the tables may be read at any time.

    Attributes:
        tokens: the sequence's known tokens: the caller's own list, which may grow.
        tables: per group the page of each block; 0 where a window group has passed it.
        computed: positions [0, computed) are in the pages.
        shares: whether its full pages are shared with equal prefixes.
    """

    __slots__ = ("computed", "firsts", "shares", "tables", "tail", "tokens")

    def __init__(
        self, tokens: Sequence[int], tail: PrefixNode, num_groups: int, shares: bool
    ) -> None:
        self.tokens = tokens
        self.tables: tuple[list[int], ...] = tuple([] for _ in range(num_groups))
        self.computed = 0
        self.firsts = [0] * num_groups  # per group the first block not passed
        self.shares = shares
        self.tail = tail  # the node of the last full computed block


class KVManager:
    """The KV pages of all groups, and all sequences that hold some.

    Args:
        sharing: whether full pages are shared among equal prefixes.

    Attributes:
        groups: as given.
    """

    def __init__(self, groups: Sequence[KVGroup], page_tokens: int, sharing: bool = True) -> None:
        self.groups = tuple(groups)
        self._sharing = sharing
        self._page_tokens = page_tokens
        self._windows = tuple(group.window for group in groups)
        self._pools = tuple(PagePool(group.num_pages) for group in groups)
        self._tree = PrefixTree(len(groups))
        self._live: set[SequencePages] = set()

    @property
    def pages_total(self) -> int:
        return sum(pool.num_pages for pool in self._pools)

    @property
    def pages_used(self) -> int:
        """Pages that sequences hold; idle ones of the prefix tree do not count."""
        return sum(pool.num_pages - pool.num_available for pool in self._pools)

    @property
    def pages_returned(self) -> int:
        """Pages given back since start. While it stands still, what did not fit does not fit."""
        return sum(pool.num_returned for pool in self._pools)

    def live_sequences(self) -> set[SequencePages]:
        """Allocated and not released."""
        return set(self._live)

    def can_hold(self, num_tokens: int) -> bool:
        """Whether a sequence of that many positions fits when it is alone."""
        return all(
            self._max_held(window, num_tokens) <= pool.num_pages
            for window, pool in zip(self._windows, self._pools, strict=True)
        )

    def known_tokens(self, tokens: Sequence[int], salt: str = "") -> int:
        """How many of these tokens a sequence opened now would find computed."""
        if not self._sharing:
            return 0
        root = self._tree.root(salt)
        known = len(self._known(tokens, root, 0)) * self._page_tokens
        self._tree.prune(root)
        return known

    def allocate(
        self, tokens: Sequence[int], salt: str | None = "", spare: int = 0
    ) -> SequencePages | None:
        """Open a sequence, sharing the pages of its longest known prefix.

        Only equal salts share; None shares with nobody, neither way.
        Holds the shared pages and takes no new one; but there is room for all tokens given, with
        `spare` pages of each group left over. None, and nothing changed, where there is not.
        """
        shares = self._sharing and salt is not None
        root = self._tree.root(salt or "")
        path = self._known(tokens, root, 0) if shares else []
        if not self._has_room(len(tokens), path, spare):
            self._tree.prune(root)
            return None
        pages = SequencePages(tokens, root, len(self._pools), shares)
        root.num_tails += 1
        self._live.add(pages)
        self._share(pages, path)
        return pages

    def catch_up(self, pages: SequencePages) -> int:
        """Share what others have computed of this sequence since it was opened.

        Raises `computed`, replaces table entries from the first block that is not full on.
        Returns by how many tokens `computed` rose.
        """
        block = pages.computed // self._page_tokens
        if not pages.shares or (len(pages.tokens) - 1) // self._page_tokens <= block:
            return 0
        before = pages.computed
        self._share(pages, self._known(pages.tokens, pages.tail, block))
        return pages.computed - before

    def extend(self, pages: SequencePages, end: int) -> int:
        """Make room for positions up to `end`, or for as many as there are pages for.

        Gives back pages that a window has passed, takes new ones and evicts idle ones for them.
        Returns the position up to which there is room now, at most `end`.
        """
        if end <= len(pages.tables[0]) * self._page_tokens:
            return end
        blocks = -(-end // self._page_tokens)
        for group, table in enumerate(pages.tables):
            self._slide(pages, group, pages.computed)
            blocks = min(blocks, len(table) + self._pools[group].num_available)
        for group, table in enumerate(pages.tables):
            while len(table) < blocks:
                table.append(self._take(group))
        return min(end, blocks * self._page_tokens)

    def commit(self, pages: SequencePages, end: int) -> None:
        """Positions up to `end` are computed now; share the blocks that this made full.

        A block that another sequence shared first is replaced by that one's page.
        """
        size = self._page_tokens
        block, full = pages.computed // size, end // size
        pages.computed = end
        if block == full or not pages.shares:
            return
        node = pages.tail
        for index in range(block, full):
            key = tuple(pages.tokens[index * size : (index + 1) * size])
            node = self._tree.child(node, key)
            for group, table in enumerate(pages.tables):
                self._merge(group, table, index, node)
        self._move_tail(pages, node)

    def release(self, pages: SequencePages) -> None:
        """Give back all pages. The tables keep their entries: a step under way may read them.

        Raises:
            KeyError: it was released before.
        """
        self._live.remove(pages)
        for pool, table, first in zip(self._pools, pages.tables, pages.firsts, strict=True):
            # last block first: so a child is always idle before, and evicted before, its parent
            for block in range(len(table) - 1, first - 1, -1):
                pool.drop(table[block])
        pages.tail.num_tails -= 1
        self._tree.prune(pages.tail)

    def check_integrity(self) -> None:
        """Prove the books: every page is free, idle, or held as often as it counts, and the prefix
        tree and the sequences agree on who holds what.

        Raises:
            IntegrityError: they do not.
        """
        self._tree.check_integrity()
        for pages in self._live:
            self._check_sequence(pages)
        for group, pool in enumerate(self._pools):
            holders = [0] * pool.num_pages
            for pages in self._live:
                for page in pages.tables[group][pages.firsts[group] :]:
                    holders[page] += 1
            pool.check_integrity(holders)
            self._check_tree(group)
        if sum(node.num_tails for node in self._tree.nodes()) != len(self._live):
            raise IntegrityError("A sequence that is gone keeps a prefix node.")

    def _check_sequence(self, pages: SequencePages) -> None:
        """Full computed blocks are the tree's, later ones are the sequence's own."""
        if len({len(table) for table in pages.tables}) != 1:
            raise IntegrityError("The block tables of a sequence differ in length.")
        node, block = pages.tail, pages.computed // self._page_tokens if pages.shares else 0
        for group, table in enumerate(pages.tables):
            first, pool = pages.firsts[group], self._pools[group]
            if any(table[:first]) or pages.computed > len(table) * self._page_tokens:
                raise IntegrityError("A block table keeps passed pages or misses computed ones.")
            if any(pool.refs(page) != 1 or pool.node(page) for page in table[max(first, block) :]):
                raise IntegrityError("A page that is not full is shared.")
        for index in range(block - 1, -1, -1):
            for group, table in enumerate(pages.tables):
                if index >= pages.firsts[group] and node.pages[group] != table[index]:
                    raise IntegrityError("A sequence's full block is not the tree's page.")
            node = node.parent or node
        if not self._tree.is_root(node):
            raise IntegrityError("A sequence's prefix is longer than what it has computed.")

    def _check_tree(self, group: int) -> None:
        """The tree and the pool name each other; in a full group no page outlives its parent's."""
        pool, whole = self._pools[group], self._windows[group] is None
        known = 0
        for node in self._tree.nodes():
            page, parent = node.pages[group], node.parent
            known += page is not None
            if page is not None and pool.node(page) is not node:
                raise IntegrityError(f"Page {page} and the prefix tree disagree.")
            if not whole or parent is None or self._tree.is_root(node):
                continue
            before = parent.pages[group]
            if page is None or (before is not None and pool.refs(page) > pool.refs(before)):
                raise IntegrityError("A prefix is kept or held without the prefix before it.")
        if known != pool.num_known:
            raise IntegrityError("A page names a prefix that is not in the tree.")

    def _first_seen(self, window: int | None, position: int) -> int:
        """The first block that a row at `position` or later sees."""
        return 0 if window is None else max(0, position - window + 1) // self._page_tokens

    def _max_held(self, window: int | None, num_tokens: int) -> int:
        """Blocks needed at once to compute that many positions, one at a time in a window."""
        blocks = -(-num_tokens // self._page_tokens)
        if window is None:
            return blocks
        return min(blocks, (window + self._page_tokens - 2) // self._page_tokens + 1)

    def _known(self, tokens: Sequence[int], node: PrefixNode, block: int) -> list[PrefixNode]:
        """Nodes behind `node`, for blocks from `block` on, that can all be shared at once.

        A window group needs only the pages that it still sees at the end of them.
        """
        size = self._page_tokens
        path: list[PrefixNode] = []
        usable = 0
        missing = [-1] * len(self._pools)  # per group the last block without a page
        for index in range(block, (len(tokens) - 1) // size):  # one token is left to compute
            child = node.children.get(tuple(tokens[index * size : (index + 1) * size]))
            if child is None:
                break
            node = child
            path.append(node)
            for group, page in enumerate(node.pages):
                if page is None:
                    missing[group] = index
            if self._sees_all(missing, (index + 1) * size):
                usable = len(path)
        return path[:usable]

    def _sees_all(self, missing: list[int], position: int) -> bool:
        return all(
            last < self._first_seen(window, position)
            for window, last in zip(self._windows, missing, strict=True)
        )

    def _has_room(self, num_tokens: int, path: list[PrefixNode], spare: int) -> bool:
        for group, (window, pool) in enumerate(zip(self._windows, self._pools, strict=True)):
            first = self._first_seen(window, len(path) * self._page_tokens)
            shared = [node.pages[group] for node in path[first:]]
            in_use = sum(page is not None and pool.refs(page) > 0 for page in shared)
            if self._max_held(window, num_tokens) - in_use + spare > pool.num_available:
                return False
        return True

    def _share(self, pages: SequencePages, path: list[PrefixNode]) -> None:
        if not path:
            return
        size = self._page_tokens
        start = pages.computed // size
        pages.computed = (start + len(path)) * size
        for group, (pool, table) in enumerate(zip(self._pools, pages.tables, strict=True)):
            while len(table) > start:  # a block partly computed gives way to the full one
                pool.drop(table.pop())
            self._slide(pages, group, pages.computed)
            for block, node in enumerate(path, start):
                page = node.pages[group]
                if block < pages.firsts[group] or page is None:
                    table.append(0)
                else:
                    pool.hold(page)
                    table.append(page)
        self._move_tail(pages, path[-1])

    def _slide(self, pages: SequencePages, group: int, position: int) -> None:
        """Give back what the group's window has passed once `position` is next."""
        table, first = pages.tables[group], pages.firsts[group]
        new_first = self._first_seen(self._windows[group], position)
        for block in range(first, min(new_first, len(table))):
            self._pools[group].drop(table[block])
            table[block] = 0
        pages.firsts[group] = max(first, new_first)

    def _take(self, group: int) -> int:
        pool = self._pools[group]
        if pool.num_free == 0:
            self._evict(group)
        return pool.take()

    def _evict(self, group: int) -> None:
        """Free the longest idle page. A prefix without a page that all later rows see is of no
        use, so its node goes whole; a window group loses that page alone."""
        node = self._pools[group].longest_idle()
        whole = self._windows[group] is None
        for other, page in enumerate(node.pages):
            if page is not None and (whole or other == group):
                self._pools[other].forget(page)
                node.pages[other] = None
        self._tree.prune(node)

    def _merge(self, group: int, table: list[int], block: int, node: PrefixNode) -> None:
        pool, mine, known = self._pools[group], table[block], node.pages[group]
        if known is None:
            node.pages[group] = mine
            pool.keep(mine, node)
        else:
            pool.hold(known)
            pool.drop(mine)
            table[block] = known

    def _move_tail(self, pages: SequencePages, node: PrefixNode) -> None:
        """`node` stands behind the old tail, which it keeps in the tree from now on."""
        pages.tail.num_tails -= 1
        pages.tail = node
        node.num_tails += 1
