"""The proof of the books on pages."""

from __future__ import annotations

from collections.abc import Collection

from vivace.cache.books import PageBooks
from vivace.cache.held import SequencePages
from vivace.cache.prefix import IntegrityError


def check_books(books: PageBooks, holders: Collection[SequencePages]) -> None:
    """Prove that every page is free, idle, or held as often as it counts, and that the prefix tree
    and the holders agree on who holds what.

    Args:
        holders: every sequence and every pin.

    Raises:
        IntegrityError: a page is leaked, freed twice or counted wrong.
    """
    books.tree.check_integrity()
    for pages in holders:
        _check_holder(books, pages)
    for group, pool in enumerate(books.pools):
        counts = [0] * pool.num_ids
        for pages in holders:
            for block in pages.held(group):
                counts[pages.tables[group][block]] += 1
        pool.check_integrity(counts)
        _check_tree(books, group)
    if sum(node.num_tails for node in books.tree.nodes()) != len(holders):
        raise IntegrityError("A sequence that is gone keeps a prefix node.")


def _check_holder(books: PageBooks, pages: SequencePages) -> None:
    """Full computed blocks are the tree's, later ones are the sequence's own."""
    if len({len(table) for table in pages.tables}) != 1:
        raise IntegrityError("The block tables of a sequence differ in length.")
    node, block = pages.tail, books.sharable_blocks(pages.scope, pages.computed)
    for group, table in enumerate(pages.tables):
        held, pool = pages.held(group), books.pools[group]
        passed = [page for index, page in enumerate(table) if not pages.holds(group, index)]
        if any(passed) or pages.computed > len(table) * books.page_tokens:
            raise IntegrityError("A block table keeps passed pages or misses computed ones.")
        own = [table[index] for index in held if index >= block]
        if any(pool.refs(page) != 1 or pool.node(page) for page in own):
            raise IntegrityError("A page that is not full is shared.")
    cut = pages.scope.sight.cut
    for index in range(block - 1, -1, -1) if cut is None or pages.computed < cut else ():
        for group, table in enumerate(pages.tables):
            if pages.holds(group, index) and node.pages[group] != table[index]:
                raise IntegrityError("A sequence's full block is not the tree's page.")
        node = node.parent or node
    if not books.tree.is_root(node):
        raise IntegrityError("A sequence's prefix is longer than what it has computed.")


def _check_tree(books: PageBooks, group: int) -> None:
    """The tree and the pool name each other; no page outlives one before it that all later rows
    see."""
    pool = books.pools[group]
    known = 0
    for node in books.tree.nodes():
        page, parent = node.pages[group], node.parent
        known += page is not None
        if page is not None and pool.node(page) is not node:
            raise IntegrityError(f"Page {page} and the prefix tree disagree.")
        if parent is None or books.tree.is_root(node):
            continue
        if not books.sights(node.scope)[group].always(node.block):
            continue
        before = parent.pages[group]
        if page is None or (before is not None and pool.refs(page) > pool.refs(before)):
            raise IntegrityError("A prefix is kept or held without the prefix before it.")
    if known != pool.num_known:
        raise IntegrityError("A page names a prefix that is not in the tree.")
