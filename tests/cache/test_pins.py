"""Pinned prefixes, and how much prefixes have been of use."""

from __future__ import annotations

import pytest
from page_user import PAGE
from tiered_user import TieredUser

from vivace.cache.blocks import KVGroup
from vivace.cache.prefix import PrefixTree, Scope
from vivace.core.errors import RequestError

pytestmark = pytest.mark.tiny

SYSTEM = [1] * 2 * PAGE


def user_of(num_pages: int, longest: int, window: int | None = None) -> TieredUser:
    user = TieredUser([KVGroup(num_pages), KVGroup(num_pages, window)], longest=longest)
    user.open(SYSTEM)
    user.compute(0, len(SYSTEM))
    user.release(0)
    return user


@pytest.mark.parametrize("window", [None, 3])
def test_a_pinned_prefix_is_not_evicted(window: int | None) -> None:
    user = user_of(6, 4 * PAGE, window)
    assert user.kv.pins.add("system", SYSTEM) == 2 * PAGE
    user.check()
    for start in (10, 20, 30):
        user.open([start] * 4 * PAGE)
        user.compute(0, 99)
        user.check()
        user.release(0)
    assert user.kv.pins.ids == ("system",)
    pages = user.open([*SYSTEM, 5])
    assert pages is not None
    assert pages.computed == 2 * PAGE
    assert user.tiers.stats().restored == 0


def test_an_unpinned_prefix_can_be_evicted() -> None:
    user = user_of(6, 4 * PAGE)
    user.kv.pins.add("system", SYSTEM)
    assert user.kv.pages_used == user.kv.pins.num_pages == 4
    returned = user.kv.pages_returned
    assert user.kv.pins.remove("system")
    assert not user.kv.pins.remove("system")
    assert (user.kv.pages_used, user.kv.pages_returned) == (0, returned + 4)
    user.check()


def test_a_pin_always_leaves_room_for_the_longest_sequence() -> None:
    user = user_of(5, 4 * PAGE)
    with pytest.raises(RequestError, match="no room for a request of the longest length"):
        user.kv.pins.check("system", SYSTEM)
    with pytest.raises(RequestError, match="no room for a request of the longest length"):
        user.kv.pins.add("system", SYSTEM)
    user.check()
    assert user.kv.pages_used == 0
    user.kv.pins.check("less", SYSTEM[:PAGE])
    user.kv.pins.add("less", SYSTEM[:PAGE])
    assert user.kv.can_hold(4 * PAGE)
    assert not user.kv.can_hold(4 * PAGE + 1)


def test_pages_pinned_twice_count_once_and_ids_are_distinct() -> None:
    user = user_of(6, 4 * PAGE)
    user.kv.pins.add("a", SYSTEM)
    user.kv.pins.check("b", SYSTEM)
    user.kv.pins.add("b", SYSTEM)
    user.check()
    assert user.kv.pins.num_pages == 4
    with pytest.raises(RequestError, match="exists"):
        user.kv.pins.check("b", SYSTEM)
    user.kv.pins.remove("a")
    assert user.kv.pins.num_pages == 4
    user.check()


def test_use_is_counted_where_a_prefix_was_found() -> None:
    user = user_of(16, 0)
    for tokens in ([*SYSTEM, 1], [*SYSTEM, 2], [*SYSTEM[:PAGE], 3]):
        user.open(tokens)
    best, other = user.kv.most_used(5)
    assert (best.tokens, best.hits, best.tokens_saved) == (tuple(SYSTEM), 2, 4 * PAGE)
    assert (other.tokens, other.hits, other.tokens_saved) == (tuple(SYSTEM[:PAGE]), 1, PAGE)
    assert user.kv.most_used(1) == [best]


def test_the_last_use_is_told_by_the_trees_clock() -> None:
    times = iter([3.0, 5.0])
    tree = PrefixTree(1, lambda: next(times))
    node = tree.child(tree.root(Scope("salt")), (1, 2))
    tree.count_hit(node)
    tree.count_hit(node)
    (use,) = tree.most_used(1)
    assert (use.scope, use.tokens, use.hits, use.last_hit) == (Scope("salt"), (1, 2), 2, 5.0)
