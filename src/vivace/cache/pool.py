"""How many pages each KV group gets, and the pages themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vivace.backends.protocol import PAGE_TOKENS, Backend, KVSpec
from vivace.core.errors import CapacityError


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
    which a step computes at most `max_step_tokens`, in pages of `page_tokens`."""

    max_model_len: int
    max_num_seqs: int
    max_step_tokens: int
    page_tokens: int = PAGE_TOKENS


def blocks_per_sequence(spec: KVSpec, demand: PageDemand) -> int:
    """The most pages that one sequence of the group holds at once."""
    tokens = demand.max_model_len
    if spec.window is not None:
        # the window, the step's own tokens, and one page at either end partly used
        tokens = min(tokens, spec.window + demand.max_step_tokens + 2 * demand.page_tokens)
    return -(-tokens // demand.page_tokens)


def blocks_held(spec: KVSpec, demand: PageDemand) -> int:
    """The most pages that a sequence of `max_model_len` tokens of the group holds when it is
    computed token by token: those that a window touches."""
    blocks, size = -(-demand.max_model_len // demand.page_tokens), demand.page_tokens
    if spec.window is None:
        return blocks
    return min(blocks, (spec.window + size - 2) // size + 1)


def plan_pages(
    groups: Sequence[KVSpec], page_bytes: Sequence[int], demand: PageDemand, budget: int
) -> PagePlan:
    """Share `budget` bytes among the groups in proportion to their demand.

    Raises:
        CapacityError: not even one sequence of `max_model_len` tokens fits.
    """
    single = [blocks_per_sequence(spec, demand) for spec in groups]
    needed = sum(count * size for count, size in zip(single, page_bytes, strict=True))
    if needed > budget:
        raise CapacityError(
            f"One sequence of {demand.max_model_len} tokens needs {needed / 2**20:.0f} MiB of KV "
            f"pages, but only {budget / 2**20:.0f} MiB are set aside; lower max_model_len or "
            "raise the KV memory."
        )
    sequences = min(demand.max_num_seqs, budget / needed)
    num_pages = tuple(int(count * sequences) for count in single)
    total = sum(count * size for count, size in zip(num_pages, page_bytes, strict=True))
    return PagePlan(num_pages, total, int(sequences))


def longest_that_fits(
    groups: Sequence[KVSpec], page_bytes: Sequence[int], demand: PageDemand, budget: int
) -> int:
    """The largest max_model_len, in whole pages, at which one sequence fits `budget` bytes."""

    def needed(max_model_len: int) -> int:
        at = replace(demand, max_model_len=max_model_len)
        return sum(
            blocks_per_sequence(spec, at) * size
            for spec, size in zip(groups, page_bytes, strict=True)
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
