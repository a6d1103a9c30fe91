"""Uses a `KVManager` as a scheduler and a model would, and remembers what is in each page."""

from __future__ import annotations

from collections.abc import Sequence

from vivace.cache.blocks import KVGroup, KVManager, SequencePages
from vivace.cache.prefix import Scope
from vivace.core.sight import ALL, Sight

PAGE = 4


def fingerprints(scope: Scope, tokens: Sequence[int]) -> list[int]:
    """Per position a number that stands for the scope and every token up to it."""
    found: list[int] = []
    before = hash(scope)
    for token in tokens:
        before = hash((before, token))
        found.append(before)
    return found


def kept_marks(scope: Scope, tokens: Sequence[int]) -> list[int]:
    """The same once the prompt is cut: what took the last places stands for nothing else."""
    marks = fingerprints(scope.of_prefix, tokens)
    for position in range(scope.sight.first_kept, scope.sight.cut or 0):
        marks[position] = hash(("kept", marks[position]))
    return marks


class PageUser:
    """Sequences over one manager, each with a budget of tokens that it never exceeds."""

    def __init__(self, groups: Sequence[KVGroup], sharing: bool = True) -> None:
        self.kv = KVManager(groups, PAGE, sharing)
        self.windows = [group.window for group in groups]
        self.live: list[tuple[SequencePages, list[int], Scope]] = []
        self._memory: dict[tuple[int, int, int], int] = {}

    def open(
        self,
        tokens: Sequence[int],
        salt: str | None = "",
        spare: int = 0,
        sight: Sight = ALL,
    ) -> SequencePages | None:
        known, scope = list(tokens), Scope(salt, sight.of_prompt(len(tokens)))
        pages = self.kv.allocate(known, scope, spare)
        if pages is not None:
            self.live.append((pages, known, scope))
        return pages

    def compute(self, index: int, count: int) -> int:
        """Compute up to `count` more tokens; returns how many there was room for."""
        pages, tokens, scope = self.live[index]
        sight, start = scope.sight, pages.computed
        end = self.kv.extend(pages, sight.step_end(start, min(len(tokens), start + count)))
        if end == start:
            return 0
        self._fill(pages, range(start, end), fingerprints(scope.of_prefix, tokens[:end]))
        if end == sight.cut:
            self._fill(pages, range(sight.first_kept, end), kept_marks(scope, tokens[:end]))
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
        for pages, tokens, scope in self.live:
            cut = scope.sight.cut
            is_cut = cut is not None and pages.computed >= cut
            marks = kept_marks(scope, tokens) if is_cut else fingerprints(scope.of_prefix, tokens)
            self._check_sight(pages, scope.sight, marks)

    def _fill(self, pages: SequencePages, positions: range, marks: list[int]) -> None:
        for position in positions:
            for group, table in enumerate(pages.tables):
                if pages.holds(group, position // PAGE):
                    self._memory[group, table[position // PAGE], position % PAGE] = marks[position]

    def _check_sight(self, pages: SequencePages, asked: Sight, marks: list[int]) -> None:
        for group, (window, table) in enumerate(zip(self.windows, pages.tables, strict=True)):
            sight = asked.within(window)
            first = sight.first_recent(pages.computed)
            for position in (*range(min(sight.sinks, first)), *range(first, pages.computed)):
                page = table[position // PAGE]
                assert self._memory[group, page, position % PAGE] == marks[position]
