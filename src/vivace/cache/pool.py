"""How many pages each KV group gets, and the pages themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vivace.backends.protocol import PAGE_TOKENS, Backend, KVSpec
from vivace.cache.seen import SeenBlocks
from vivace.core.errors import CapacityError
from vivace.core.sight import ALL, Sight

# Of a budget windows get this much at least: it lets more sequences run than could all be long.
_WINDOW_SHARE = 1 / 32


@dataclass(frozen=True)
class PagePlan:
    """Attributes:
    num_pages: pages per KV group.
    total_bytes: what all of them take.
    num_sequences: how many sequences of the longest length they hold at once.
    """

    num_pages: tuple[int, ...]
    total_bytes: int
    num_sequences: int


@dataclass(frozen=True)
class PageDemand:
    """What serving would like to hold: `max_num_seqs` sequences of `max_model_len` tokens, of
    which a step computes at most `max_step_tokens`, in pages of `page_tokens`, and whose rows see
    `sight`."""

    max_model_len: int
    max_num_seqs: int
    max_step_tokens: int
    page_tokens: int = PAGE_TOKENS
    sight: Sight = ALL

    def seen(self, spec: KVSpec) -> SeenBlocks:
        """What rows see of a group."""
        return SeenBlocks(self.sight.within(spec.window), self.page_tokens)


def blocks_held(spec: KVSpec, demand: PageDemand) -> int:
    """The most pages that a sequence of `max_model_len` tokens of the group holds when it is
    computed token by token."""
    return demand.seen(spec).max_held(demand.max_model_len)


def blocks_of_step(spec: KVSpec, demand: PageDemand) -> int:
    """The pages of a group that a step's sequences together hold beside those: until the step is
    done, also what its own tokens do not see any more."""
    size = demand.page_tokens
    passed = -(-demand.max_model_len // size) - blocks_held(spec, demand)
    return min(demand.max_num_seqs * passed, -(-demand.max_step_tokens // size))


def plan_pages(
    groups: Sequence[KVSpec], page_bytes: Sequence[int], demand: PageDemand, budget: int
) -> PagePlan:
    """Share `budget` bytes among the groups: a step's own pages once, and the rest in proportion to
    what a sequence of the greatest length holds. A small window gets more than that: its pages
    are what shorter sequences run out of first.

    Raises:
        CapacityError: not even one sequence of `max_model_len` tokens fits.
    """
    held = [blocks_held(spec, demand) for spec in groups]
    of_step = [blocks_of_step(spec, demand) for spec in groups]
    each = [count * size for count, size in zip(held, page_bytes, strict=True)]
    once = _bytes(of_step, page_bytes)
    if once + sum(each) > budget:
        needed = (once + sum(each)) / 2**20
        raise CapacityError(
            f"One sequence of {demand.max_model_len} tokens needs {needed:.0f} MiB of KV "
            f"pages, but only {budget / 2**20:.0f} MiB are set aside; lower max_model_len or "
            "raise the KV memory."
        )
    sequences = _share(groups, each, budget - once, demand.max_num_seqs)
    num_pages = tuple(
        int(count * times) + more
        for count, times, more in zip(held, sequences, of_step, strict=True)
    )
    return PagePlan(num_pages, _bytes(num_pages, page_bytes), int(min(sequences)))


def _share(groups: Sequence[KVSpec], each: Sequence[int], room: int, most: int) -> list[float]:
    """Per group for how many sequences of the greatest length it has pages, at most `most`, where
    one of them takes so many bytes of `each` group and all have `room` bytes."""
    windows = sum(size for spec, size in zip(groups, each, strict=True) if spec.window is not None)
    whole = sum(each) - windows
    fitting = min(most, room / sum(each))
    if not (whole and windows):
        return [fitting] * len(groups)
    of_windows = min(room - whole, max(fitting * windows, room * _WINDOW_SHARE))
    in_windows = min(most, of_windows / windows)
    in_whole = min(most, (room - in_windows * windows) / whole)
    in_whole = max(1.0, in_whole)  # one fits, whatever division makes of it
    return [in_whole if spec.window is None else in_windows for spec in groups]


def longest_that_fits(
    groups: Sequence[KVSpec], page_bytes: Sequence[int], demand: PageDemand, budget: int
) -> int:
    """The largest max_model_len, in whole pages, at which one sequence fits `budget` bytes."""

    def needed(max_model_len: int) -> int:
        at = replace(demand, max_model_len=max_model_len)
        return _bytes(
            [blocks_held(spec, at) + blocks_of_step(spec, at) for spec in groups], page_bytes
        )

    low, high = 0, demand.max_model_len
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if needed(middle) <= budget else (low, middle - 1)
    return low


def shared_page_tokens(groups: Sequence[KVSpec]) -> int:
    """Positions of one page of the books: the most that any group's page holds, so that a prefix
    ends where a page of every group ends. A group of smaller pages has several in a row for it."""
    return max(spec.page_tokens for spec in groups)


def pages_per_shared(groups: Sequence[KVSpec]) -> list[int]:
    """Per group how many of its pages stand for one page of the books."""
    return [shared_page_tokens(groups) // spec.page_tokens for spec in groups]


def page_bytes(backend: Backend, groups: Sequence[KVSpec]) -> list[int]:
    """Per group the bytes of one page of the books."""
    return [
        backend.kv_page_bytes(spec) * count
        for spec, count in zip(groups, pages_per_shared(groups), strict=True)
    ]


def _bytes(counts: Sequence[int], page_bytes: Sequence[int]) -> int:
    return sum(count * size for count, size in zip(counts, page_bytes, strict=True))
