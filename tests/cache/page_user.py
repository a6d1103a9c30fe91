"""Uses a `KVManager` as a scheduler and a model would, and remembers what is in each page."""

from __future__ import annotations

from collections.abc import Sequence

from vivace.cache.blocks import KVGroup, KVManager, SequencePages

PAGE = 4


def fingerprints(salt: str | None, tokens: Sequence[int]) -> list[int]:
    """Per position a number that stands for the salt and every token up to it."""
    found: list[int] = []
    before = hash(salt)
    for token in tokens:
        before = hash((before, token))
        found.append(before)
    return found


class PageUser:
    """Sequences over one manager, each with a budget of tokens that it never exceeds."""

    def __init__(self, groups: Sequence[KVGroup], sharing: bool = True) -> None:
        self.kv = KVManager(groups, PAGE, sharing)
        self.windows = [group.window for group in groups]
        self.live: list[tuple[SequencePages, list[int], str | None]] = []
        self._memory: dict[tuple[int, int, int], int] = {}

    def open(
        self, tokens: Sequence[int], salt: str | None = "", spare: int = 0
    ) -> SequencePages | None:
        known = list(tokens)
        pages = self.kv.allocate(known, salt, spare)
        if pages is not None:
            self.live.append((pages, known, salt))
        return pages

    def compute(self, index: int, count: int) -> int:
        """Compute up to `count` more tokens; returns how many there was room for."""
        pages, tokens, salt = self.live[index]
        start = pages.computed
        end = self.kv.extend(pages, min(len(tokens), start + count))
        marks = fingerprints(salt, tokens[:end])
        for position in range(start, end):
            for group, table in enumerate(pages.tables):
                page = table[position // PAGE]
                self._memory[group, page, position % PAGE] = marks[position]
        if end > start:
            self.kv.commit(pages, end)
        return end - start

    def append(self, index: int, token: int) -> None:
        self.live[index][1].append(token)

    def catch_up(self, index: int) -> int:
        return self.kv.catch_up(self.live[index][0])

    def release(self, index: int) -> None:
        self.kv.release(self.live.pop(index)[0])

    def check(self) -> None:
        """The books agree, and every sequence finds what its next row sees."""
        self.kv.check_integrity()
        for pages, tokens, salt in self.live:
            self._check_sight(pages, fingerprints(salt, tokens))

    def _check_sight(self, pages: SequencePages, marks: list[int]) -> None:
        for group, (window, table) in enumerate(zip(self.windows, pages.tables, strict=True)):
            first = 0 if window is None else max(0, pages.computed - window + 1)
            for position in range(first, pages.computed):
                page = table[position // PAGE]
                assert self._memory[group, page, position % PAGE] == marks[position]
