"""How memory is shared among KV groups."""

from __future__ import annotations

import pytest

from vivace.backends.protocol import KVSpec
from vivace.cache.pool import PageDemand, blocks_per_sequence, longest_that_fits, plan_pages
from vivace.core.errors import CapacityError

pytestmark = pytest.mark.tiny

FULL = KVSpec(num_layers=1, num_kv_heads=1, head_dim=64)
WINDOW = KVSpec(num_layers=5, num_kv_heads=1, head_dim=64, window=64)
DEMAND = PageDemand(max_model_len=1000, max_num_seqs=10, max_step_tokens=32)
SIZES = [100, 500]


def test_a_window_needs_only_what_it_sees_and_computes() -> None:
    assert blocks_per_sequence(FULL, DEMAND) == 63
    assert blocks_per_sequence(WINDOW, DEMAND) == 8
    assert blocks_per_sequence(WINDOW, PageDemand(40, 10, 32)) == 3


def test_with_enough_memory_every_sequence_fits_and_no_more_is_taken() -> None:
    plan = plan_pages([FULL, WINDOW], SIZES, DEMAND, 10**9)
    assert plan.num_pages == (630, 80)
    assert plan.total_bytes == 630 * 100 + 80 * 500


@pytest.mark.parametrize("budget", [10_300, 15_000, 99_999])
def test_a_tight_budget_is_kept_and_still_holds_one_sequence(budget: int) -> None:
    plan = plan_pages([FULL, WINDOW], SIZES, DEMAND, budget)
    assert plan.total_bytes <= budget
    assert plan.num_pages[0] >= 63
    assert plan.num_pages[1] >= 8


def test_less_than_one_sequence_is_an_error_and_says_which_length_would_fit() -> None:
    with pytest.raises(CapacityError, match="max_model_len"):
        plan_pages([FULL, WINDOW], SIZES, DEMAND, 10_299)
    fits = longest_that_fits([FULL, WINDOW], SIZES, DEMAND, 10_299)
    assert fits == 62 * 16
    shorter = PageDemand(fits, 10, 32)
    assert plan_pages([FULL, WINDOW], SIZES, shorter, 10_299).total_bytes <= 10_299
