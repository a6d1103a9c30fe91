"""Prefixes that were computed ahead of their use: found, or in vain."""

from __future__ import annotations

import pytest
from page_user import PAGE, PageUser

from vivace.cache.blocks import KVGroup
from vivace.cache.held import Ahead

pytestmark = pytest.mark.tiny

PREFIX = list(range(2 * PAGE))


def user_of(num_pages: int) -> PageUser:
    """On whose pages somebody has prefetched the prefix."""
    user = PageUser([KVGroup(num_pages)])
    prefetch(user)
    return user


def prefetch(user: PageUser) -> None:
    pages = user.kv.allocate([*PREFIX, 0], ahead=True)
    assert pages is not None
    user.kv.commit(pages, user.kv.extend(pages, len(PREFIX) + 1))
    user.kv.release(pages)


def test_what_is_found_was_of_use_once() -> None:
    user = user_of(8)
    assert user.kv.ahead == Ahead(computed=2 * PAGE)
    user.open([*PREFIX[:PAGE], 7, 7])
    assert user.kv.ahead == Ahead(2 * PAGE, used=PAGE)
    user.open([*PREFIX, 8])
    user.open([*PREFIX, 9])
    assert user.kv.ahead == Ahead(2 * PAGE, used=2 * PAGE)


def test_another_prefetch_is_no_use() -> None:
    user = user_of(8)
    prefetch(user)
    assert user.kv.ahead == Ahead(computed=2 * PAGE)


def test_what_is_evicted_before_it_is_found_was_in_vain() -> None:
    user = user_of(3)
    user.open([99] * 3 * PAGE)
    user.compute(0, 3 * PAGE)
    assert user.kv.ahead == Ahead(2 * PAGE, wasted=2 * PAGE)
    user.check()


def test_what_was_there_is_not_computed_ahead() -> None:
    user = PageUser([KVGroup(8)])
    user.open([*PREFIX, 1])
    user.compute(0, len(PREFIX))
    prefetch(user)
    assert user.kv.ahead == Ahead()
