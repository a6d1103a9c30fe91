"""Which pages hold which prefix: a tree of full blocks, one edge per block of tokens.

A block is found by (parent, its tokens), under a root per scope. The dictionary of children is the
hash chain; it compares the tokens themselves, so equal hashes never mix two prefixes.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from vivace.core.request import Request
from vivace.core.sight import ALL, Sight


class IntegrityError(RuntimeError):
    """The books on KV pages do not agree: a defect of this program."""


@dataclass(frozen=True)
class Scope:
    """Prefixes are shared within one: what is in their pages depends on more than their tokens.

    Attributes:
        salt: whatever keeps users apart; None shares with nobody.
        sight: what rows of the sequence see.
    """

    salt: str | None = ""
    sight: Sight = ALL

    @staticmethod
    def of(request: Request) -> Scope:
        """Where a request's prefix is shared."""
        return Scope(request.cache_scope, request.sight)

    @property
    def of_prefix(self) -> Scope:
        """The same for all who share a prefix: what is chosen of a prompt changes nothing in it."""
        return self if self.sight.kept is None else replace(self, sight=self.sight.uncut)

    def sharable(self, end: int) -> int:
        """How many positions before `end` are shared with equal prefixes. Where what is kept of a
        prompt takes the places of others, pages are the sequence's own."""
        if self.salt is None:
            return 0
        return end if self.sight.cut is None else min(end, self.sight.first_kept)


PLAIN = Scope()


class PrefixNode:
    """One full block behind a known prefix.

    Attributes:
        parent: the block before it; None for a root, which stands for no block.
        key: the block's tokens; a root's is its scope.
        scope: its root's.
        block: how many blocks stand before it; -1 of a root.
        pages: per KV group the page that holds the block, or None.
        num_tails: sequences whose computed prefix ends here; they keep the node in the tree.
        digest: names the prefix outside the device (chain.py), once somebody asked.
        hits: how often a sequence found its prefix up to here and no further.
        last_hit: when it last did, in seconds on the tree's clock.
        awaited: whether it was computed ahead of its use, and nobody has found it yet.
    """

    __slots__ = (
        "awaited",
        "block",
        "children",
        "digest",
        "hits",
        "key",
        "last_hit",
        "num_tails",
        "pages",
        "parent",
        "scope",
    )

    def __init__(
        self, parent: PrefixNode | None, key: tuple[int, ...] | Scope, num_groups: int
    ) -> None:
        self.parent = parent
        self.key = key
        if isinstance(key, Scope):
            self.scope, self.block = key, -1
        else:
            assert parent is not None
            self.scope, self.block = parent.scope, parent.block + 1
        self.children: dict[tuple[int, ...] | Scope, PrefixNode] = {}
        self.pages: list[int | None] = [None] * num_groups
        self.num_tails = 0
        self.digest: bytes | None = None
        self.hits = 0
        self.last_hit = 0.0
        self.awaited = False

    @property
    def unused(self) -> bool:
        return not (self.children or self.num_tails or any(p is not None for p in self.pages))


class PrefixUse(NamedTuple):
    """How much a prefix that the tree knows has been of use.

    Attributes:
        tokens: the prefix itself.
        hits: sequences that found it, and nothing longer.
        tokens_saved: tokens that they did not compute again.
        last_hit: seconds on the tree's clock.
    """

    scope: Scope
    tokens: tuple[int, ...]
    hits: int
    tokens_saved: int
    last_hit: float


class PrefixTree:
    """Nodes by prefix. It knows of pages only their numbers; `KVManager` holds and frees them."""

    def __init__(self, num_groups: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._num_groups = num_groups
        self._clock = clock
        self._hit: set[PrefixNode] = set()
        self._top = PrefixNode(None, PLAIN, num_groups)  # its children are the roots, one per scope

    def root(self, scope: Scope) -> PrefixNode:
        """The empty prefix of a scope. Adds it to the tree where it is new."""
        return self.child(self._top, scope.of_prefix)

    def child(self, parent: PrefixNode, key: tuple[int, ...] | Scope) -> PrefixNode:
        """The node for one more block. Adds it to the tree where it is new."""
        node = parent.children.get(key)
        if node is None:
            node = parent.children[key] = PrefixNode(parent, key, self._num_groups)
        return node

    def is_root(self, node: PrefixNode) -> bool:
        return node.parent is self._top

    def prune(self, node: PrefixNode) -> None:
        """Take a node that nobody needs out of the tree, and each ancestor left so."""
        while node.parent is not None and node.unused:
            del node.parent.children[node.key]
            self._hit.discard(node)
            node = node.parent

    def count_hit(self, node: PrefixNode) -> None:
        """A sequence found its prefix up to here."""
        node.hits += 1
        node.last_hit = self._clock()
        self._hit.add(node)

    def most_used(self, count: int) -> list[PrefixUse]:
        """The prefixes that saved most tokens, best first; what was evicted is forgotten."""
        best = heapq.nlargest(count, self._hit, key=lambda node: node.hits * (node.block + 1))
        return [self._use(node) for node in best]

    def _use(self, node: PrefixNode) -> PrefixUse:
        tokens, at = [], node
        while isinstance(at.key, tuple) and at.parent is not None:
            tokens.append(at.key)
            at = at.parent
        prefix = tuple(token for block in reversed(tokens) for token in block)
        saved = node.hits * len(prefix)
        return PrefixUse(node.scope, prefix, node.hits, saved, node.last_hit)

    def nodes(self) -> Iterator[PrefixNode]:
        """Every node but the top one, parents first."""
        return self.behind(self._top)

    def behind(self, node: PrefixNode) -> Iterator[PrefixNode]:
        """Every node that has this one before it, parents first."""
        stack = list(node.children.values())
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children.values())

    def check_integrity(self) -> None:
        """Raises IntegrityError if a node is misplaced or should have been pruned."""
        for node in self.nodes():
            if node.parent is None or node.parent.children.get(node.key) is not node:
                raise IntegrityError("A prefix node is not where its parent says.")
            if node.unused:
                raise IntegrityError("A prefix node that nobody needs was not pruned.")
