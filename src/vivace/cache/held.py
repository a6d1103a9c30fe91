"""What a sequence holds of the KV pages, and where it found it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from vivace.cache.prefix import PrefixNode, Scope
from vivace.cache.seen import SeenBlocks
from vivace.cache.stored import StoredPage

Tier: TypeAlias = Literal["device", "host", "disk"]


class Found(NamedTuple):
    """Tokens that were not computed again, by where they were found."""

    device: int = 0
    host: int = 0
    disk: int = 0

    def plus(self, tier: Tier, tokens: int) -> Found:
        return self._replace(**{tier: getattr(self, tier) + tokens})


@dataclass
class Ahead:
    """Tokens that were computed ahead of their use: how many of them somebody found, and how many
    left the device before anybody did."""

    computed: int = 0
    used: int = 0
    wasted: int = 0


class SequencePages:
    """What one sequence holds. Only `KVManager` changes it; the tables may be read at any time.

    Attributes:
        tokens: the sequence's known tokens: the caller's own list, which may grow.
        scope: where its full pages are shared with equal prefixes.
        sights: per group what its rows see.
        tables: per group the page of each block; 0 where no later row sees it.
        computed: positions [0, computed) are in the pages.
        found: how many of these were found there, not computed.
        ahead: whether they are computed for others, who may come.
    """

    __slots__ = (
        "ahead",
        "computed",
        "firsts",
        "found",
        "scope",
        "sights",
        "tables",
        "tail",
        "tokens",
    )

    def __init__(
        self,
        tokens: Sequence[int],
        tail: PrefixNode,
        scope: Scope,
        sights: tuple[SeenBlocks, ...],
    ) -> None:
        self.tokens = tokens
        self.scope = scope
        self.sights = sights
        self.tables: tuple[list[int], ...] = tuple([] for _ in sights)
        self.computed = 0
        self.found = Found()
        self.ahead = False
        self.firsts = [0] * len(sights)  # per group the first block not passed, sinks left out
        self.tail = tail  # the node of the last full computed block

    def holds(self, group: int, block: int) -> bool:
        """Whether the block, if it is there at all, has a page."""
        return block >= self.firsts[group] or block < self.sights[group].sinks

    def held(self, group: int) -> list[int]:
        """The blocks that have pages."""
        end, first = len(self.tables[group]), self.firsts[group]
        sinks = min(self.sights[group].sinks, first, end)
        return [*range(sinks), *range(first, end)]


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
