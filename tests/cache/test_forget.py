"""What is forgotten is not found again, in any tier; what is held stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_user import PAGE, PageUser
from tiered_user import TieredUser

from vivace.cache.blocks import KVGroup

pytestmark = pytest.mark.tiny

LONG = [7] * (3 * PAGE + 1)
GROUPS = [KVGroup(8), KVGroup(8, PAGE + 2)]


def run(user: PageUser, tokens: list[int]) -> int:
    """A sequence that comes, is computed and goes; how much of it was known."""
    pages = user.open(tokens)
    assert pages is not None
    known = pages.computed
    user.compute(len(user.live) - 1, len(tokens))
    user.check()
    user.release(len(user.live) - 1)
    return known


def test_idle_prefixes_are_forgotten() -> None:
    user = PageUser(GROUPS)
    run(user, LONG)
    user.kv.forget_prefixes()
    user.check()
    assert run(user, LONG) == 0
    assert run(user, LONG) == 3 * PAGE


def test_what_a_sequence_or_a_pin_holds_stays() -> None:
    user = PageUser([KVGroup(16)])
    run(user, LONG)
    user.kv.pins.check("p", LONG[:PAGE])
    user.kv.pins.add("p", LONG[:PAGE])
    user.open([8] * (2 * PAGE + 1))
    user.compute(0, 100)
    user.kv.forget_prefixes()
    user.check()
    assert run(user, LONG) == PAGE
    assert run(user, [8] * (2 * PAGE + 1)) == 2 * PAGE


def test_no_lower_tier_finds_it_either(tmp_path: Path) -> None:
    user = TieredUser([KVGroup(5)], tmp_path)
    run(user, LONG)
    user.write_everything_down()
    run(user, [8] * 5 * PAGE)
    user.kv.forget_prefixes()
    user.executor.work()
    user.check()
    assert (user.tiers.stats().host_bytes, user.tiers.stats().disk_bytes) == (0, 0)
    user.kv.want(LONG)
    user.executor.work()
    assert run(user, LONG) == 0
    assert list(tmp_path.glob("*/*.page")) == []


def test_files_of_other_models_stay(tmp_path: Path) -> None:
    user = TieredUser([KVGroup(5)], tmp_path)
    run(user, LONG)
    user.write_everything_down()
    kept = user.tiers.stats().disk_bytes
    assert kept > 0
    user.restart(b"another model")
    user.kv.forget_prefixes()
    user.executor.work()
    assert user.tiers.stats().disk_bytes == kept


def test_a_sequence_that_is_computed_whole_gives_what_it_does_not_take() -> None:
    user = PageUser([KVGroup(16)])
    run(user, LONG)
    pages = user.kv.allocate(LONG, reuses=False)
    assert pages is not None
    assert pages.computed == 0
    assert user.kv.extend(pages, len(LONG)) == len(LONG)
    user.kv.commit(pages, len(LONG))
    user.kv.check_integrity()
    user.kv.release(pages)
    assert run(user, LONG) == 3 * PAGE


@pytest.mark.parametrize("groups", [[KVGroup(8)], GROUPS])
def test_pages_that_nobody_needed_were_not_evicted(groups: list[KVGroup]) -> None:
    user = PageUser(groups)
    run(user, LONG)
    user.kv.forget_prefixes()
    run(user, LONG)
    assert any(user.kv.shrink(0.5))
    assert sum(user.kv.page_ages().lifetime.counts) == 0
    for token in range(10):
        run(user, [token] * (PAGE + 1))
    assert sum(user.kv.page_ages().lifetime.counts) > 0
