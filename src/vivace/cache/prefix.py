"""Which pages hold which prefix: a tree of full blocks, one edge per block of tokens.

A block is found by (parent, its tokens), under a root per salt. The dictionary of children is the
hash chain; it compares the tokens themselves, so equal hashes never mix two prefixes.
"""

from __future__ import annotations

from collections.abc import Iterator


class IntegrityError(RuntimeError):
    """The books on KV pages do not agree: a defect of this program."""


class PrefixNode:
    """One full block behind a known prefix.

    Attributes:
        parent: the block before it; None for a root, which stands for no block.
        key: the block's tokens; a root's is its salt.
        pages: per KV group the page that holds the block, or None.
        num_tails: sequences whose computed prefix ends here; they keep the node in the tree.
    """

    __slots__ = ("children", "key", "num_tails", "pages", "parent")

    def __init__(
        self, parent: PrefixNode | None, key: tuple[int, ...] | str, num_groups: int
    ) -> None:
        self.parent = parent
        self.key = key
        self.children: dict[tuple[int, ...] | str, PrefixNode] = {}
        self.pages: list[int | None] = [None] * num_groups
        self.num_tails = 0

    @property
    def unused(self) -> bool:
        return not (self.children or self.num_tails or any(p is not None for p in self.pages))


class PrefixTree:
    """Nodes by prefix. It knows of pages only their numbers; `KVManager` holds and frees them."""

    def __init__(self, num_groups: int) -> None:
        self._num_groups = num_groups
        self._top = PrefixNode(None, "", num_groups)  # its children are the roots, one per salt

    def root(self, salt: str) -> PrefixNode:
        """The empty prefix under a salt. Adds it to the tree where it is new."""
        return self.child(self._top, salt)

    def child(self, parent: PrefixNode, key: tuple[int, ...] | str) -> PrefixNode:
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
            node = node.parent

    def nodes(self) -> Iterator[PrefixNode]:
        """Every node but the top one, parents first."""
        stack = list(self._top.children.values())
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
