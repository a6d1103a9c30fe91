"""How many pages each KV group gets, and the pages themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    which a step computes at most `max_step_tokens`."""

    max_model_len: int
    max_num_seqs: int
    max_step_tokens: int


def blocks_per_sequence(spec: KVSpec, demand: PageDemand) -> int:
    """The most pages that one sequence of the group holds at once."""
    tokens = demand.max_model_len
    if spec.window is not None:
        # the window, the step's own tokens, and one page at either end partly used
        tokens = min(tokens, spec.window + demand.max_step_tokens + 2 * PAGE_TOKENS)
    return -(-tokens // PAGE_TOKENS)


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
        at = PageDemand(max_model_len, demand.max_num_seqs, demand.max_step_tokens)
        return sum(
            blocks_per_sequence(spec, at) * size
            for spec, size in zip(groups, page_bytes, strict=True)
        )

    low, high = 0, demand.max_model_len
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if needed(middle) <= budget else (low, middle - 1)
    return low


def page_bytes(backend: Backend, groups: Sequence[KVSpec]) -> list[int]:
    return [backend.kv_page_bytes(spec) for spec in groups]
