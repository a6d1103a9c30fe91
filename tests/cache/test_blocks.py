from __future__ import annotations

import pytest
from page_user import PAGE, PageUser

from vivace.cache.blocks import KVGroup, KVManager, SequencePages
from vivace.cache.prefix import IntegrityError

pytestmark = pytest.mark.tiny


def computed(user: PageUser, tokens: list[int], salt: str | None = "") -> SequencePages:
    """A sequence with all its tokens in pages."""
    pages = user.open(tokens, salt)
    assert pages is not None
    user.compute(len(user.live) - 1, len(tokens))
    assert pages.computed == len(tokens)
    user.check()
    return pages


def opened(user: PageUser, tokens: list[int], salt: str | None = "") -> SequencePages:
    pages = user.open(tokens, salt)
    assert pages is not None
    user.check()
    return pages


def test_full_pages_are_shared_and_the_last_token_is_left_to_compute() -> None:
    user = PageUser([KVGroup(16)])
    first = computed(user, [1] * 2 * PAGE)
    assert opened(user, [1] * 2 * PAGE).computed == PAGE
    longer = opened(user, [1] * 2 * PAGE + [2])
    assert longer.computed == 2 * PAGE
    assert longer.tables[0] == first.tables[0]
    assert user.kv.pages_used == 2


def test_a_page_that_is_not_full_is_not_shared() -> None:
    user = PageUser([KVGroup(16)])
    computed(user, [1] * (2 * PAGE - 1))
    assert opened(user, [1] * 3 * PAGE).computed == PAGE


@pytest.mark.parametrize(
    ("tokens", "salt"), [([1] * 9, "other"), ([2] + [1] * 8, ""), ([-2] * 9, "")]
)
def test_nothing_is_shared_with_another_prefix_or_salt(tokens: list[int], salt: str) -> None:
    user = PageUser([KVGroup(16)])
    computed(user, [1] * 9)
    computed(user, [-1] * 9)
    assert hash((-1,) * PAGE) == hash((-2,) * PAGE)  # a collision does not matter
    assert opened(user, tokens, salt).computed == 0


def test_a_sequence_without_salt_shares_neither_way() -> None:
    user = PageUser([KVGroup(16)])
    computed(user, [1] * 9, salt=None)
    assert opened(user, [1] * 9).computed == 0
    user.compute(1, 9)
    assert opened(user, [1] * 9, salt=None).computed == 0
    assert user.catch_up(2) == 0


def test_equal_blocks_behind_different_prefixes_are_different() -> None:
    user = PageUser([KVGroup(16)])
    computed(user, [1] * PAGE + [3] * PAGE)
    computed(user, [2] * PAGE + [4] * PAGE)
    assert opened(user, [2] * PAGE + [3] * PAGE + [0]).computed == PAGE


def test_pages_of_generated_tokens_are_shared_too() -> None:
    user = PageUser([KVGroup(16)])
    computed(user, [1, 2, 3])
    for token in (4, 5, 6, 7, 8):
        user.append(0, token)
        user.compute(0, 1)
    user.release(0)
    assert opened(user, [1, 2, 3, 4, 5, 6, 7, 8, 9]).computed == 2 * PAGE


def test_the_same_block_computed_twice_ends_in_one_page() -> None:
    user = PageUser([KVGroup(16)])
    first, second = opened(user, [1] * 6), opened(user, [1] * 6)
    user.compute(0, 6)
    user.compute(1, 6)
    user.check()
    assert first.tables[0][0] == second.tables[0][0]
    assert first.tables[0][1] != second.tables[0][1]
    assert user.kv.pages_used == 3


def test_a_sequence_catches_up_with_what_others_computed_since() -> None:
    user = PageUser([KVGroup(16), KVGroup(16, window=3)])
    first, second = opened(user, [1] * 11), opened(user, [1] * 11)
    user.compute(1, 2)
    user.compute(0, 11)
    assert user.catch_up(1) == 2 * PAGE - 2
    user.check()
    assert second.tables[0] == first.tables[0][:2]
    assert user.catch_up(1) == 0


def test_a_window_gives_back_what_it_passed() -> None:
    user = PageUser([KVGroup(16), KVGroup(16, window=PAGE)])
    pages = computed(user, [1] * 3 * PAGE)
    user.append(0, 1)
    user.compute(0, 1)
    user.check()
    assert pages.tables[1][:2] == [0, 0]
    assert all(refs == 1 for refs in map(user.kv._books.pools[1].refs, pages.tables[1][2:]))
    assert user.kv.pages_used == 4 + 2


def test_a_window_hit_needs_only_the_pages_still_seen() -> None:
    user = PageUser([KVGroup(8), KVGroup(4, window=PAGE)])
    computed(user, [1] * 2 * PAGE)
    for _ in range(2 * PAGE):  # the window passes the first blocks and their pages are evicted
        user.append(0, 1)
        user.compute(0, 1)
    user.release(0)
    computed(user, [2] * 2 * PAGE)
    user.release(0)
    hit = opened(user, [1] * (4 * PAGE + 1))
    assert hit.computed == 4 * PAGE
    assert hit.tables[1][:3] == [0, 0, 0]
    user.release(0)
    assert opened(user, [1] * (2 * PAGE + 1)).computed == 0


def test_what_no_row_behind_a_block_sees_is_free_once_the_block_is_full() -> None:
    user = PageUser([KVGroup(8), KVGroup(4, window=1)])
    computed(user, [1] * 2 * PAGE + [2])
    assert user.kv.pages_used == 3 + 1
    assert opened(user, [1] * 2 * PAGE + [3]).computed == 2 * PAGE
    assert user.kv.pages_used == 3 + 1
    user.release(0)
    assert user.kv.pages_used == 2


def test_the_least_recently_used_leaf_is_evicted_first() -> None:
    user = PageUser([KVGroup(4)])
    computed(user, [1] * PAGE + [2] * PAGE)
    user.release(0)
    computed(user, [3] * PAGE)
    user.release(0)
    opened(user, [1] * PAGE + [2] * PAGE + [0])  # used again: now later than [3]
    user.release(0)
    computed(user, [4] * 2 * PAGE)  # one page is free, one is evicted
    user.release(0)
    assert opened(user, [3] * PAGE + [0]).computed == 0
    user.release(0)
    computed(user, [5] * PAGE)  # evicts the leaf [2] before its parent [1]
    user.release(0)
    assert opened(user, [1] * PAGE + [2] * PAGE + [0]).computed == PAGE


def test_held_pages_are_never_evicted() -> None:
    user = PageUser([KVGroup(4)])
    computed(user, [1] * 3 * PAGE)
    assert user.open([2] * 2 * PAGE) is None
    assert opened(user, [1] * (3 * PAGE + 1)).computed == 3 * PAGE


def test_room_is_what_can_be_had_and_refusal_changes_nothing() -> None:
    user = PageUser([KVGroup(4)])
    pages = opened(user, [1] * 2 * PAGE)
    pages_of_rest = computed(user, [2] * 2 * PAGE)
    user.append(0, 1)
    assert user.kv.extend(pages, 2 * PAGE + 1) == 2 * PAGE
    assert user.kv.extend(pages_of_rest, 2 * PAGE + 1) == 2 * PAGE
    returned = user.kv.pages_returned
    assert user.open([3], salt="new") is None
    assert user.kv.pages_returned == returned
    user.check()


def test_spare_pages_are_left_over() -> None:
    user = PageUser([KVGroup(4)])
    assert user.open([1] * 3 * PAGE, spare=2) is None
    assert user.open([1] * 3 * PAGE, spare=1) is not None


@pytest.mark.parametrize(
    ("window", "num_tokens", "pages"),
    [(None, 9, 3), (1, 99, 1), (2, 99, 2), (PAGE, 99, 2), (PAGE + 1, 99, 2), (PAGE + 2, 99, 3)],
)
def test_what_fits_alone_is_exact(window: int | None, num_tokens: int, pages: int) -> None:
    assert not KVManager([KVGroup(pages - 1, window)], PAGE).can_hold(num_tokens)
    user = PageUser([KVGroup(pages, window)])
    assert user.kv.can_hold(num_tokens)
    opened(user, list(range(num_tokens)))
    while user.live[0][0].computed < num_tokens:
        assert user.compute(0, num_tokens) > 0
        user.check()


def test_without_sharing_nothing_is_found_or_kept() -> None:
    user = PageUser([KVGroup(8)], sharing=False)
    computed(user, [1] * 9)
    assert opened(user, [1] * 9).computed == 0
    assert user.catch_up(1) == 0
    user.release(0)
    user.release(0)
    assert user.kv.pages_used == 0


def test_releasing_twice_is_an_error() -> None:
    kv = KVManager([KVGroup(2)], PAGE)
    pages = kv.allocate([1])
    assert pages is not None
    kv.release(pages)
    with pytest.raises(KeyError):
        kv.release(pages)


def test_tables_of_a_released_sequence_can_still_be_read() -> None:
    user = PageUser([KVGroup(4)])
    pages = computed(user, [1] * 6)
    table = list(pages.tables[0])
    user.release(0)
    assert pages.tables[0] == table


def test_the_check_sees_wrong_books() -> None:
    user = PageUser([KVGroup(4)])
    pages = computed(user, [1] * 6)
    user.kv._books.pools[0].hold(pages.tables[0][0])
    with pytest.raises(IntegrityError, match="counts 2 holders, has 1"):
        user.kv.check_integrity()
