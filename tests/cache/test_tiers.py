"""Pages that the device has no room for are found again, below and after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_user import PAGE, PageUser
from tiered_user import PAGE_BYTES, TieredUser

from vivace.cache.blocks import KVGroup, SequencePages
from vivace.cache.swap import swap_is_cheaper

pytestmark = pytest.mark.tiny

LONG = [7] * (3 * PAGE + 1)


def opened(user: PageUser, tokens: list[int]) -> SequencePages:
    pages = user.open(tokens)
    assert pages is not None
    user.check()
    return pages


def run(user: PageUser, tokens: list[int]) -> None:
    """A sequence that comes, is computed and goes."""
    opened(user, tokens)
    user.compute(len(user.live) - 1, len(tokens))
    user.check()
    user.release(len(user.live) - 1)


@pytest.mark.parametrize("window", [None, 3, PAGE + 2])
def test_what_was_evicted_comes_back_from_host_memory(window: int | None) -> None:
    user = TieredUser([KVGroup(5), KVGroup(5, window)])
    run(user, LONG)
    run(user, [8] * 5 * PAGE)
    assert opened(user, LONG).computed == 3 * PAGE
    assert user.tiers.stats().restored > 0


def test_the_least_recently_used_page_leaves_host_memory() -> None:
    user = TieredUser([KVGroup(4)], host_pages=4)
    for start in (10, 20, 30):
        run(user, [start] * 4 * PAGE)
    assert opened(user, [20] * 4 * PAGE).computed == 3 * PAGE
    user.release(0)
    assert opened(user, [10] * 4 * PAGE).computed == 0
    assert user.tiers.stats().lost > 0
    assert user.tiers.stats().host_bytes == 4 * PAGE_BYTES


def test_a_restart_finds_what_was_written_down(tmp_path: Path) -> None:
    user = TieredUser([KVGroup(5)], tmp_path)
    run(user, LONG)
    user.write_everything_down()
    user.restart()
    user.kv.want(LONG)
    user.executor.work()
    assert opened(user, LONG).computed == 3 * PAGE
    stats = user.tiers.stats()
    assert (stats.fetched, stats.fetched_used, stats.restored) == (3, 3, 3)


def test_another_fingerprint_finds_nothing(tmp_path: Path) -> None:
    user = TieredUser([KVGroup(5)], tmp_path)
    run(user, LONG)
    user.write_everything_down()
    user.restart(b"another model")
    user.kv.want(LONG)
    user.executor.work()
    assert opened(user, LONG).computed == 0
    assert user.tiers.stats().disk_bytes > 0


def test_a_sequence_starts_without_what_is_late_and_goes_on_with_it(tmp_path: Path) -> None:
    user = TieredUser([KVGroup(5)], tmp_path)
    run(user, LONG)
    user.write_everything_down()
    user.restart()
    pages = opened(user, LONG)
    assert pages.computed == 0
    user.compute(0, 2)
    user.executor.work()
    assert user.catch_up(0) == 3 * PAGE - 2
    user.check()


def test_pages_that_came_up_in_vain_are_counted(tmp_path: Path) -> None:
    user = TieredUser([KVGroup(5)], tmp_path, host_pages=3)
    run(user, LONG)
    user.write_everything_down()
    user.restart()
    user.kv.want(LONG)
    user.executor.work()
    opened(user, [1])
    user.release(0)
    user.tiers.find(*_nothing())
    for start in (20, 30):
        run(user, [start] * 5 * PAGE)
    assert user.tiers.stats().fetched_wasted == 3


def _nothing() -> tuple:  # type: ignore[type-arg]
    from vivace.cache.stored import PageKey

    return PageKey(b"", 0), b"", ()


def test_equal_digests_are_not_believed() -> None:
    user = TieredUser([KVGroup(5)])
    user.tiers.chain.after = lambda parent, tokens: b"all alike"  # type: ignore[method-assign]
    run(user, [1] * (PAGE + 1))
    run(user, [2] * 5 * PAGE)
    assert opened(user, [3] * (PAGE + 1)).computed == 0


def test_what_is_cheaper_to_compute_again_is_not_kept() -> None:
    user = TieredUser([KVGroup(5)], is_worth_it=lambda num_bytes, num_tokens: False)
    run(user, [1] * (PAGE + 1))
    run(user, [2] * 5 * PAGE)
    assert user.tiers.stats().lost > 0
    assert user.tiers.stats().host_bytes == 0
    assert opened(user, [1] * (PAGE + 1)).computed == 0


def test_swapping_is_chosen_where_both_copies_take_less_time() -> None:
    assert swap_is_cheaper(1000, 1000.0, 10, 0.21)
    assert not swap_is_cheaper(1000, 1000.0, 10, 0.2)
    assert swap_is_cheaper(1000, float("inf"), 1, 1e-9)


def test_what_was_found_is_told_by_where_it_was(tmp_path: Path) -> None:
    user = TieredUser([KVGroup(5)], tmp_path)
    run(user, LONG)
    user.write_everything_down()
    assert opened(user, LONG).found == (3 * PAGE, 0, 0)
    user.release(0)
    run(user, [8] * 5 * PAGE)
    assert opened(user, LONG).found == (0, 3 * PAGE, 0)
    user.release(0)
    user.restart()
    user.kv.want(LONG)
    user.executor.work()
    assert opened(user, LONG).found == (0, 0, 3 * PAGE)
