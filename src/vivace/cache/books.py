"""The books on pages: pools, the prefix tree, and what moves between them and block tables.

`KVManager` (blocks.py) is their only user, with what serves one sequence beside it: integrity.py
proves them, fetch.py fills them from below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from vivace.cache.ages import AgeTally
from vivace.cache.pages import PagePool, max_held
from vivace.cache.prefix import PrefixNode, PrefixTree
from vivace.cache.stored import PageKey, StoredPage
from vivace.cache.tiers import PageTiers

Tier: TypeAlias = Literal["device", "host", "disk"]


class KVGroup(NamedTuple):
    """Attributes:
    num_pages: pages in the group's pool.
    window: how many last positions a row sees, itself included; None sees all.
    """

    num_pages: int
    window: int | None = None


class Found(NamedTuple):
    """Tokens that were not computed again, by where they were found."""

    device: int = 0
    host: int = 0
    disk: int = 0

    def plus(self, tier: Tier, tokens: int) -> Found:
        return self._replace(**{tier: getattr(self, tier) + tokens})


class SequencePages:
    """What one sequence holds. Only `KVManager` changes it; the tables may be read at any time.

    Attributes:
        tokens: the sequence's known tokens: the caller's own list, which may grow.
        tables: per group the page of each block; 0 where a window group has passed it.
        computed: positions [0, computed) are in the pages.
        found: how many of these were found there, not computed.
        shares: whether its full pages are shared with equal prefixes.
    """

    __slots__ = ("computed", "firsts", "found", "shares", "tables", "tail", "tokens")

    def __init__(
        self, tokens: Sequence[int], tail: PrefixNode, num_groups: int, shares: bool
    ) -> None:
        self.tokens = tokens
        self.tables: tuple[list[int], ...] = tuple([] for _ in range(num_groups))
        self.computed = 0
        self.found = Found()
        self.firsts = [0] * num_groups  # per group the first block not passed
        self.shares = shares
        self.tail = tail  # the node of the last full computed block


class LowerBlock(NamedTuple):
    """A block that is not on the device, or only in part.

    Attributes:
        tokens: the block's own.
        pages: per group the page that a lower tier has; None where the device has it, or nobody.
        tier: the lowest that one of them came from.
    """

    tokens: tuple[int, ...]
    pages: tuple[StoredPage | None, ...]
    tier: Tier


class PageBooks:
    """Pages of all groups.

    Args:
        tiers: where evicted pages go; None loses them.
    """

    def __init__(
        self, groups: Sequence[KVGroup], page_tokens: int, tiers: PageTiers | None = None
    ) -> None:
        self.page_tokens = page_tokens
        self.windows = tuple(group.window for group in groups)
        self.ages = AgeTally()
        self.pools = tuple(PagePool(group.num_pages, self.ages) for group in groups)
        self.tree = PrefixTree(len(groups))
        self.tiers = tiers

    def first_seen(self, window: int | None, position: int) -> int:
        """The first block that a row at `position` or later sees."""
        return 0 if window is None else max(0, position - window + 1) // self.page_tokens

    def max_held(self, window: int | None, num_tokens: int) -> int:
        """Blocks needed at once to compute that many positions, one at a time in a window."""
        return max_held(window, num_tokens, self.page_tokens)

    def known(
        self, tokens: Sequence[int], node: PrefixNode, block: int, end: int
    ) -> list[PrefixNode]:
        """Nodes behind `node`, for blocks [block, end), that can all be shared at once.

        A window group needs only the pages that it still sees at the end of them.
        """
        size = self.page_tokens
        path: list[PrefixNode] = []
        usable = 0
        missing = [-1] * len(self.pools)  # per group the last block without a page
        for index in range(block, end):
            child = node.children.get(tuple(tokens[index * size : (index + 1) * size]))
            if child is None:
                break
            node = child
            path.append(node)
            for group, page in enumerate(node.pages):
                if page is None:
                    missing[group] = index
            if self.sees_all(missing, (index + 1) * size):
                usable = len(path)
        return path[:usable]

    def sees_all(self, missing: Sequence[int], position: int) -> bool:
        """Whether a row at `position` sees none of the missing blocks, the last of each group."""
        return all(
            last < self.first_seen(window, position)
            for window, last in zip(self.windows, missing, strict=True)
        )

    def has_room(self, num_tokens: int, path: Sequence[PrefixNode], spare: int) -> bool:
        """Whether a sequence of so many tokens that shares `path` fits beside all others.

        Spare pages are for what sees all: in a window, who goes on gives back what it takes.
        """
        for group, (window, pool) in enumerate(zip(self.windows, self.pools, strict=True)):
            first = self.first_seen(window, len(path) * self.page_tokens)
            shared = [node.pages[group] for node in path[first:]]
            in_use = sum(page is not None and pool.refs(page) > 0 for page in shared)
            wanted = self.max_held(window, num_tokens) + (spare if window is None else 0)
            if wanted - in_use > pool.num_available:
                return False
        return True

    def share(self, pages: SequencePages, path: Sequence[PrefixNode]) -> None:
        """Hold the pages of nodes behind the sequence's tail, and go on from there."""
        if path:
            self._advance(pages, path, ["device"] * len(path))

    def adopt(self, pages: SequencePages, blocks: Sequence[LowerBlock]) -> None:
        """As `share`, with pages from lower tiers where the device lacks one.

        There must be an available page for each block that a group still sees behind them.
        """
        nodes = self._grow(pages.tail, blocks)
        self._advance(
            pages, nodes, [block.tier for block in blocks]
        )  # holds what is there first: taking evicts
        start = pages.computed // self.page_tokens - len(nodes)
        for group, table in enumerate(pages.tables):
            for place, (node, block) in enumerate(zip(nodes, blocks, strict=True)):
                stored = block.pages[group]
                index = start + place
                if stored is not None and index >= pages.firsts[group]:
                    table[index] = self._bring_up(group, node, stored)

    def slide(self, pages: SequencePages, group: int, position: int) -> None:
        """Give back what the group's window has passed once `position` is next."""
        table, first = pages.tables[group], pages.firsts[group]
        new_first = self.first_seen(self.windows[group], position)
        for block in range(first, min(new_first, len(table))):
            self.pools[group].drop(table[block])
            table[block] = 0
        pages.firsts[group] = max(first, new_first)

    def take(self, group: int) -> int:
        """A page for somebody alone; the longest idle one gives way where none is free."""
        pool = self.pools[group]
        if pool.num_free == 0:
            self._evict(group)
        return pool.take()

    def forget_idle(self) -> None:
        """Take what nobody holds out of the tree; lower tiers do not get it."""
        for group, pool in enumerate(self.pools):
            while pool.num_idle:
                node = pool.longest_idle()
                page = node.pages[group]
                assert page is not None
                pool.forget(page)
                node.pages[group] = None
                self.tree.prune(node)

    def cut(self, pages: SequencePages, blocks: int) -> None:
        """Give back the pages of a sequence from that block on."""
        for pool, table, first in zip(self.pools, pages.tables, pages.firsts, strict=True):
            # last block first: so a child is always idle before, and evicted before, its parent
            for block in range(len(table) - 1, max(first, blocks) - 1, -1):
                pool.drop(table[block])

    def merge(self, pages: SequencePages, end: int) -> None:
        """Offer the full blocks before position `end` that are behind the sequence's tail.

        A block that another sequence shared first is replaced by that one's page. In a window of
        one token nobody behind a block sees any of it: its page stays the sequence's own.
        """
        size = self.page_tokens
        node = pages.tail
        for block in range(pages.computed // size, end // size):
            node = self.tree.child(node, tuple(pages.tokens[block * size : (block + 1) * size]))
            for group, table in enumerate(pages.tables):
                if block >= pages.firsts[group] and self.windows[group] != 1:
                    self._merge(group, table, block, node)
            if self.tiers is not None:
                self.tiers.remember(node)
        self._move_tail(pages, node)

    def leave(self, pages: SequencePages) -> None:
        """The sequence keeps its place in the tree no more."""
        pages.tail.num_tails -= 1
        self.tree.prune(pages.tail)

    def _grow(self, node: PrefixNode, blocks: Sequence[LowerBlock]) -> list[PrefixNode]:
        nodes = []
        for block in blocks:
            node = self.tree.child(node, block.tokens)
            nodes.append(node)
        return nodes

    def _advance(
        self, pages: SequencePages, nodes: Sequence[PrefixNode], tiers: Sequence[Tier]
    ) -> None:
        """The sequence is computed to the end of these nodes, which were found in these tiers, and
        holds the pages they have."""
        start = pages.computed // self.page_tokens
        self._move_tail(pages, nodes[-1])  # from now on it keeps them in the tree
        for block, tier in enumerate(tiers, start + 1):
            end = block * self.page_tokens
            pages.found = pages.found.plus(tier, end - pages.computed)
            pages.computed = end
        self.cut(pages, start)  # a block partly computed gives way to the full one
        for group, table in enumerate(pages.tables):
            del table[start:]
            self.slide(pages, group, pages.computed)
            for node in nodes:
                page = node.pages[group]
                if page is None or len(table) < pages.firsts[group]:
                    table.append(0)
                else:
                    self.pools[group].hold(page)
                    table.append(page)

    def _bring_up(self, group: int, node: PrefixNode, stored: StoredPage) -> int:
        assert self.tiers is not None
        page = self.take(group)
        self.tiers.restore(PageKey(self.tiers.chain.of(node), group), stored, page)
        node.pages[group] = page
        self.pools[group].keep(page, node)
        return page

    def _evict(self, group: int) -> None:
        """Free the longest idle page. A prefix without a page that all later rows see is of no
        use, so its node goes whole; a window group loses that page alone."""
        node = self.pools[group].longest_idle()
        whole = self.windows[group] is None
        for other, page in enumerate(node.pages):
            if page is None or not (whole or other == group):
                continue
            if self.tiers is not None:
                self.tiers.save(node, other, page)
            self.pools[other].evict(page)
            node.pages[other] = None
        self.tree.prune(node)

    def _merge(self, group: int, table: list[int], block: int, node: PrefixNode) -> None:
        pool, mine, known = self.pools[group], table[block], node.pages[group]
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
