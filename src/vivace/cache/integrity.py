"""The proof of the books on pages."""

from __future__ import annotations

from collections.abc import Collection

from vivace.cache.books import PageBooks, SequencePages
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
            for page in pages.tables[group][pages.firsts[group] :]:
                counts[page] += 1
        pool.check_integrity(counts)
        _check_tree(books, group)
    if sum(node.num_tails for node in books.tree.nodes()) != len(holders):
        raise IntegrityError("A sequence that is gone keeps a prefix node.")


def _check_holder(books: PageBooks, pages: SequencePages) -> None:
    """Full computed blocks are the tree's, later ones are the sequence's own."""
    if len({len(table) for table in pages.tables}) != 1:
        raise IntegrityError("The block tables of a sequence differ in length.")
    node, block = pages.tail, pages.computed // books.page_tokens if pages.shares else 0
    for group, table in enumerate(pages.tables):
        first, pool = pages.firsts[group], books.pools[group]
        if any(table[:first]) or pages.computed > len(table) * books.page_tokens:
            raise IntegrityError("A block table keeps passed pages or misses computed ones.")
        if any(pool.refs(page) != 1 or pool.node(page) for page in table[max(first, block) :]):
            raise IntegrityError("A page that is not full is shared.")
    for index in range(block - 1, -1, -1):
        for group, table in enumerate(pages.tables):
            if index >= pages.firsts[group] and node.pages[group] != table[index]:
                raise IntegrityError("A sequence's full block is not the tree's page.")
        node = node.parent or node
    if not books.tree.is_root(node):
        raise IntegrityError("A sequence's prefix is longer than what it has computed.")


def _check_tree(books: PageBooks, group: int) -> None:
    """The tree and the pool name each other; in a full group no page outlives its parent's."""
    pool, whole = books.pools[group], books.windows[group] is None
    known = 0
    for node in books.tree.nodes():
        page, parent = node.pages[group], node.parent
        known += page is not None
        if page is not None and pool.node(page) is not node:
            raise IntegrityError(f"Page {page} and the prefix tree disagree.")
        if not whole or parent is None or books.tree.is_root(node):
            continue
        before = parent.pages[group]
        if page is None or (before is not None and pool.refs(page) > pool.refs(before)):
            raise IntegrityError("A prefix is kept or held without the prefix before it.")
    if known != pool.num_known:
        raise IntegrityError("A page names a prefix that is not in the tree.")
