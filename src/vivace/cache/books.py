"""The books on pages: pools, the prefix tree, and what moves between them and block tables.

`KVManager` (blocks.py) is their only user, with what serves one sequence beside it: integrity.py
proves them, fetch.py fills them from below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from vivace.cache.ages import AgeTally
from vivace.cache.held import Ahead, LowerBlock, SequencePages, Tier
from vivace.cache.pages import PagePool
from vivace.cache.prefix import PrefixNode, PrefixTree, Scope
from vivace.cache.seen import SeenBlocks, none_seen
from vivace.cache.stored import PageKey, StoredPage
from vivace.cache.tiers import PageTiers

Free: TypeAlias = Callable[[PrefixNode, int, int], None]  # a node's page of a group


class KVGroup(NamedTuple):
    """Attributes:
    num_pages: pages in the group's pool.
    window: how many last positions a row sees, itself included; None sees all.
    """

    num_pages: int
    window: int | None = None


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
        self.ahead = Ahead()

    def sights(self, scope: Scope) -> tuple[SeenBlocks, ...]:
        """Per group what rows of a scope's sequences see."""
        return tuple(
            SeenBlocks(scope.sight.within(window), self.page_tokens) for window in self.windows
        )

    def open(self, tokens: Sequence[int], scope: Scope) -> SequencePages:
        """A sequence that holds nothing yet, and keeps its root in the tree."""
        root = self.tree.root(scope)
        root.num_tails += 1
        return SequencePages(tokens, root, scope, self.sights(scope))

    def sharable_blocks(self, scope: Scope, end: int) -> int:
        """How many of a sequence's first blocks, full before position `end`, may be shared."""
        return scope.sharable(end) // self.page_tokens

    def known(
        self, tokens: Sequence[int], node: PrefixNode, block: int, end: int
    ) -> list[PrefixNode]:
        """Nodes behind `node`, for blocks [block, end), that can all be shared at once.

        A group needs only the pages that it still sees at the end of them.
        """
        size, sights = self.page_tokens, self.sights(node.scope)
        path: list[PrefixNode] = []
        usable = 0
        missing = [-1] * len(self.pools)  # per group the last block without a page
        for index in range(block, end):
            child = node.children.get(tuple(tokens[index * size : (index + 1) * size]))
            if child is None:
                break
            node = child
            path.append(node)
            lacking = [group for group, page in enumerate(node.pages) if page is None]
            if any(sights[group].always(index) for group in lacking):
                break
            for group in lacking:
                missing[group] = index
            if none_seen(sights, missing, (index + 1) * size):
                usable = len(path)
        return path[:usable]

    def has_room(
        self, num_tokens: int, root: PrefixNode, path: Sequence[PrefixNode], spare: int
    ) -> bool:
        """Whether a sequence of so many tokens that shares `path` fits beside all others.

        Spare pages are for what sees all: in a window, who goes on gives back what it takes.
        """
        end = len(path) * self.page_tokens
        for group, (seen, pool) in enumerate(zip(self.sights(root.scope), self.pools, strict=True)):
            shared = [node.pages[group] for node in path if seen.sees(node.block, end)]
            in_use = sum(page is not None and pool.refs(page) > 0 for page in shared)
            wanted = seen.max_held(num_tokens) + (spare if self.windows[group] is None else 0)
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
                if stored is not None and pages.holds(group, index):
                    table[index] = self._bring_up(group, node, stored)

    def slide(self, pages: SequencePages, group: int, position: int) -> None:
        """Give back what no row sees once `position` is next."""
        table, first, seen = pages.tables[group], pages.firsts[group], pages.sights[group]
        new_first = seen.first_recent(position)
        # last block first, as in `cut`
        for block in reversed(range(max(first, seen.sinks), min(new_first, len(table)))):
            self.pools[group].drop(table[block])
            table[block] = 0
        pages.firsts[group] = max(first, new_first)

    def take(self, group: int) -> int:
        """A page for somebody alone; the longest idle one gives way where none is free."""
        pool = self.pools[group]
        if pool.num_free == 0:
            self._free_longest_idle(group, self._evict)
        return pool.take()

    def forget_idle(self) -> None:
        """Take what nobody holds out of the tree; lower tiers do not get it."""
        for group, pool in enumerate(self.pools):
            while pool.num_idle:
                self._free_longest_idle(group, self._forget)

    def retire(self, group: int, count: int) -> list[int]:
        """Give up so many pages for good, or as many as nobody holds; lower tiers do not get what
        was in them. Returns them."""
        pool = self.pools[group]
        count = min(count, pool.num_available)
        while pool.num_free < count:
            self._free_longest_idle(group, self._forget)
        return pool.retire(count)

    def cut(self, pages: SequencePages, blocks: int) -> None:
        """Give back the pages of a sequence from that block on."""
        for group, (pool, table) in enumerate(zip(self.pools, pages.tables, strict=True)):
            # last block first: so a child is always idle before, and evicted before, its parent
            for block in reversed(pages.held(group)):
                if block >= blocks:
                    pool.drop(table[block])

    def merge(self, pages: SequencePages, end: int) -> None:
        """Offer the full blocks before position `end` that are behind the sequence's tail, as far
        as it shares them.

        A block that another sequence shared first is replaced by that one's page. What no row
        behind a block sees, as in a window of one token, stays the sequence's own.
        """
        size = self.page_tokens
        node = pages.tail
        begin, stop = (self.sharable_blocks(pages.scope, at) for at in (pages.computed, end))
        if begin == stop:
            return
        for block in range(begin, stop):
            node = self.tree.child(node, tuple(pages.tokens[block * size : (block + 1) * size]))
            if pages.ahead and node.unused:
                node.awaited = True
                self.ahead.computed += size
            for group, table in enumerate(pages.tables):
                seen = pages.sights[group].sees(block, (block + 1) * size)
                if seen and pages.holds(group, block):
                    self._merge(group, table, block, node)
            if self.tiers is not None:
                self.tiers.remember(node)
        self._move_tail(pages, node)

    def leave(self, pages: SequencePages) -> None:
        """The sequence keeps its place in the tree no more."""
        pages.tail.num_tails -= 1
        self.tree.prune(pages.tail)

    def part(self, pages: SequencePages) -> None:
        """The sequence's prompt is cut: all that it holds is its own, and the prefix may go."""
        root = self.tree.root(pages.scope)
        root.num_tails += 1
        self.leave(pages)
        pages.tail = root

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
        for node in nodes:
            if node.awaited and not pages.ahead:
                node.awaited = False
                self.ahead.used += self.page_tokens
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
                if page is None or not pages.holds(group, len(table)):
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

    def _free_longest_idle(self, group: int, free: Free) -> None:
        """Free the longest idle page. Where a window passes it goes alone. A prefix without a page
        that all later rows see is of no use: its node goes whole, with what is behind it, which
        nobody holds then."""
        node = self.pools[group].longest_idle()
        if not self.sights(node.scope)[group].always(node.block):
            self._take_out(node, group, free)
            self.tree.prune(node)
            return
        nodes = [node, *self.tree.behind(node)]
        for each in nodes:
            for other in range(len(self.pools)):
                self._take_out(each, other, free)
        for leaf in [each for each in nodes if not each.children]:
            self.tree.prune(leaf)

    def _take_out(self, node: PrefixNode, group: int, free: Free) -> None:
        """The tree has the node's page no more, if it had one."""
        page = node.pages[group]
        if page is None:
            return
        free(node, group, page)
        node.pages[group] = None
        if node.awaited:
            node.awaited = False
            self.ahead.wasted += self.page_tokens

    def _evict(self, node: PrefixNode, group: int, page: int) -> None:
        """Another needs the page; lower tiers may keep what is in it."""
        if self.tiers is not None:
            self.tiers.save(node, group, page)
        self.pools[group].evict(page)

    def _forget(self, node: PrefixNode, group: int, page: int) -> None:
        self.pools[group].forget(page)

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
