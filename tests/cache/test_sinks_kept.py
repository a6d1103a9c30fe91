"""Sinks and a window in the books: what is kept, given back and found again."""

from __future__ import annotations

import pytest
from page_user import PAGE, PageUser

from vivace.cache.blocks import KVGroup
from vivace.core.sight import ALL, Sight

pytestmark = pytest.mark.tiny

SIGHT = Sight(window=2 * PAGE, sinks=1)
LONG = [5] * (10 * PAGE)


def streamed(user: PageUser, tokens: list[int], sight: Sight = SIGHT) -> list[int]:
    """The pages held after each token, of one sequence computed token by token."""
    pages = user.open(tokens, sight=sight)
    assert pages is not None
    held = []
    while pages.computed < len(tokens):
        assert user.compute(len(user.live) - 1, 1) == 1
        user.check()
        held.append(user.kv.pages_used)
    return held


def test_a_stream_holds_its_sinks_and_what_its_window_touches() -> None:
    user = PageUser([KVGroup(16)])
    held = streamed(user, LONG)
    assert max(held) == 1 + 3
    assert held[: 2 * PAGE] == [1] * PAGE + [2] * PAGE  # nothing goes before the cache is full


def test_as_few_pages_as_that_are_enough() -> None:
    user = PageUser([KVGroup(4)])
    streamed(user, LONG)
    assert PageUser([KVGroup(4)]).open(LONG) is None


def test_a_layers_narrower_window_is_kept_beside() -> None:
    user = PageUser([KVGroup(16), KVGroup(16, window=2)])
    assert max(streamed(user, LONG)) == (1 + 3) + 1


def test_a_passed_prefix_is_shared_by_its_sinks_and_its_end() -> None:
    user = PageUser([KVGroup(7)])
    streamed(user, LONG)
    user.release(0)
    streamed(user, [7] * (3 * PAGE), ALL)  # takes the pages that the window has passed
    user.release(0)
    pages = user.open([*LONG, 6], sight=SIGHT)
    assert pages is not None
    assert pages.computed == len(LONG)
    assert user.kv.pages_used == 1 + 2
    user.check()


def test_a_prefix_without_its_sinks_is_gone() -> None:
    user = PageUser([KVGroup(5)])
    streamed(user, LONG)
    user.release(0)
    streamed(user, [7] * (5 * PAGE), ALL)
    user.release(0)
    pages = user.open([*LONG, 6], sight=SIGHT)
    assert pages is not None
    assert pages.computed == 0
    user.check()


@pytest.mark.parametrize("other", [ALL, Sight(2 * PAGE, 2), Sight(2 * PAGE + 1, 1)])
def test_nothing_is_shared_between_sights(other: Sight) -> None:
    user = PageUser([KVGroup(32)])
    streamed(user, LONG)
    pages = user.open(LONG, sight=other)
    assert pages is not None
    assert pages.computed == 0
