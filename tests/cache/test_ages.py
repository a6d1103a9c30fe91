"""How long pages are of use, told by a clock of the test's."""

from __future__ import annotations

import pytest

from vivace.cache.ages import AgeTally
from vivace.cache.pages import PagePool
from vivace.cache.prefix import PLAIN, PrefixTree

pytestmark = pytest.mark.tiny


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_page_tells_its_ages() -> None:
    clock = Clock()
    ages = AgeTally(clock)
    pool, tree = PagePool(2, ages), PrefixTree(1)
    clock.now = 3
    page = pool.take()
    pool.keep(page, tree.root(PLAIN))
    clock.now = 10
    pool.drop(page)
    clock.now = 14
    pool.hold(page)  # found again
    pool.hold(page)  # and shared while it is in use, which is no gap
    pool.drop(page)
    clock.now = 20
    pool.drop(page)
    clock.now = 50
    pool.evict(page)
    stats = ages.stats()
    assert (stats.reuse_gap.total, sum(stats.reuse_gap.counts)) == (4, 1)
    assert (stats.lifetime.total, sum(stats.lifetime.counts)) == (47, 1)
    assert (stats.idle.total, sum(stats.idle.counts)) == (30, 1)


def test_what_is_forgotten_on_purpose_was_not_evicted() -> None:
    ages = AgeTally(Clock())
    pool = PagePool(1, ages)
    page = pool.take()
    pool.keep(page, PrefixTree(1).root(PLAIN))
    pool.drop(page)
    pool.forget(page)
    assert sum(ages.stats().lifetime.counts) == 0
