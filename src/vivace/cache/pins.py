"""Prefixes that stay on the device: system prompts."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vivace.cache.books import PageBooks
from vivace.cache.held import SequencePages
from vivace.cache.prefix import PLAIN, Scope
from vivace.core.errors import RequestError


class Pins:
    """Prefixes by the id under which they were pinned. A pin holds pages as a sequence does.

    Args:
        longest: tokens of the longest sequence; there is always room for one beside the pins.
        longest_scope: its scope.
    """

    def __init__(self, books: PageBooks, longest: int, longest_scope: Scope = PLAIN) -> None:
        self._books = books
        self._longest = longest
        self._longest_scope = longest_scope
        self._pins: dict[str, SequencePages] = {}

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._pins)

    @property
    def num_pages(self) -> int:
        return sum(len(pages) for pages in self._pinned(()))

    def holders(self) -> Collection[SequencePages]:
        return self._pins.values()

    def leave_room_for(self, num_tokens: int, scope: Scope) -> bool:
        """Whether a sequence of that many positions fits when it is alone with the pins."""
        return self._fits(num_tokens, scope, self._pinned(()))

    def least_pages(self, group: int) -> int:
        """How many pages of a group the longest sequence needs, alone with the pins."""
        seen = self._books.sights(self._longest_scope)[group]
        return seen.max_held(self._longest) + len(self._pinned(())[group])

    def check(self, pin_id: str, tokens: Sequence[int], scope: Scope = PLAIN) -> None:
        """Before a prefix is computed.

        Raises:
            RequestError: `add` would refuse it.
        """
        self._check_id(pin_id)
        books, pinned = self._books, self._pinned(())
        root = books.tree.root(scope)
        blocks = len(tokens) // books.page_tokens
        path = books.known(tokens, root, 0, blocks)
        books.tree.prune(root)
        sights = zip(books.sights(scope), books.sights(self._longest_scope), strict=True)
        for group, (seen, seen_by_longest) in enumerate(sights):
            again = sum(node.pages[group] in pinned[group] for node in path)
            more = min(blocks - again, seen.max_held(len(tokens)))
            longest = seen_by_longest.max_held(self._longest)
            if len(pinned[group]) + more + longest > books.pools[group].num_pages:
                raise _no_room(len(tokens))

    def add(self, pin_id: str, tokens: Sequence[int], scope: Scope = PLAIN) -> int:
        """Keep the full blocks that are known of a prefix; returns their tokens.

        Raises:
            RequestError: the id is in use, or this would leave no room for the longest sequence.
        """
        self._check_id(pin_id)
        books = self._books
        root = books.tree.root(scope)
        path = books.known(tokens, root, 0, len(tokens) // books.page_tokens)
        pages = books.open(tuple(tokens), scope)
        books.share(pages, path)
        if not self._fits(self._longest, self._longest_scope, self._pinned((pages,))):
            self._release(pages)
            raise _no_room(len(tokens))
        self._pins[pin_id] = pages
        return pages.computed

    def remove(self, pin_id: str) -> bool:
        """Let a prefix be evicted again; False where the id is unknown."""
        pages = self._pins.pop(pin_id, None)
        if pages is None:
            return False
        self._release(pages)
        return True

    def _check_id(self, pin_id: str) -> None:
        if pin_id in self._pins:
            raise RequestError(f"The pin {pin_id!r} exists; unpin it first.", "pin")

    def _release(self, pages: SequencePages) -> None:
        self._books.cut(pages, 0)
        self._books.leave(pages)

    def _pinned(self, more: Collection[SequencePages]) -> list[set[int]]:
        """Per group the pages that pins hold, with those of `more`."""
        holders = [*self._pins.values(), *more]
        return [
            {pages.tables[group][block] for pages in holders for block in pages.held(group)}
            for group in range(len(self._books.pools))
        ]

    def _fits(self, num_tokens: int, scope: Scope, pinned: Sequence[Collection[int]]) -> bool:
        books = self._books
        return all(
            seen.max_held(num_tokens) + len(pages) <= pool.num_pages
            for seen, pool, pages in zip(books.sights(scope), books.pools, pinned, strict=True)
        )


def _no_room(num_tokens: int) -> RequestError:
    return RequestError(
        f"Pinning {num_tokens} tokens would leave no room for a request of the longest length; "
        "pin less, unpin something, or raise the KV memory.",
        "pin",
    )
