"""Prompts that are cut, in the books: what is given back, and what stays a sequence's own."""

from __future__ import annotations

import pytest
from page_user import PAGE, PageUser

from vivace.cache.blocks import KVGroup
from vivace.core.sight import ALL, Sight

pytestmark = pytest.mark.tiny

KEPT = Sight(kept=2 * PAGE + 1)
PROMPT = [5] * (10 * PAGE)
FIRST = 8 * PAGE - 1  # of what is kept


def computed(user: PageUser, tokens: list[int], sight: Sight, chunk: int = 7) -> int:
    """The prefix that was found, of a sequence that is computed and goes on for a while."""
    pages = user.open(tokens, sight=sight)
    assert pages is not None
    index, found = len(user.live) - 1, pages.computed
    while pages.computed < len(tokens):
        assert user.compute(index, chunk)
        user.check()
    for token in range(2 * PAGE):
        user.append(index, token)
        assert user.compute(index, 1) == 1
        user.check()
    return found


def test_what_stands_before_is_given_back() -> None:
    user = PageUser([KVGroup(12)])
    computed(user, PROMPT, KEPT)
    assert user.kv.pages_used == 10 - FIRST // PAGE + 2


def test_a_prompt_that_fits_is_kept_whole() -> None:
    user = PageUser([KVGroup(12)])
    computed(user, PROMPT, Sight(kept=len(PROMPT)))
    assert user.kv.pages_used == 12


def test_prefixes_are_shared_with_those_that_keep_all_up_to_the_first_place() -> None:
    user = PageUser([KVGroup(40)])
    assert computed(user, PROMPT, KEPT) == 0
    shared = FIRST // PAGE * PAGE
    assert computed(user, PROMPT, ALL) == shared
    assert computed(user, PROMPT, KEPT) == shared
    assert computed(user, PROMPT, ALL) == len(PROMPT) - PAGE


def test_a_layers_window_sees_no_more_than_what_is_kept() -> None:
    user = PageUser([KVGroup(12), KVGroup(12, window=12 * PAGE)])
    computed(user, PROMPT, KEPT)
    assert user.kv.pages_used == (10 - FIRST // PAGE + 2) + (10 - FIRST // PAGE + 2)
