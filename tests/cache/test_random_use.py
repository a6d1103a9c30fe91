"""Random use of the page allocator and the prefix tree; the books are checked again and again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from page_user import PAGE, PageUser

from vivace.cache.blocks import KVGroup
from vivace.core.sight import ALL, Sight

MAX_TOKENS = 40
NUM_OPERATIONS = 100_000
BATCH = 4
EXAMPLES = 100

windows = st.sampled_from([None, None, 1, 3, PAGE, PAGE + 1, 11])
SIGHTS = (ALL, ALL, Sight(3, 2), Sight(PAGE, PAGE + 1), Sight(11, 1), Sight(5), Sight(kept=9))


@st.composite
def groups(draw: st.DrawFn) -> list[KVGroup]:
    """One to three groups, each with room for at least one longest sequence."""
    return [
        KVGroup(draw(st.integers(MAX_TOKENS // PAGE, 4 * MAX_TOKENS // PAGE)), window)
        for window in draw(st.lists(windows, min_size=1, max_size=3))
    ]


class Machine(RuleBasedStateMachine):
    """Every operation with values that hypothesis can shrink."""

    @initialize(groups=groups(), sharing=st.sampled_from([True, True, True, False]))
    def start(self, groups: list[KVGroup], sharing: bool) -> None:
        self.user = PageUser(groups, sharing)

    def _index(self, choice: int) -> int:
        return choice % len(self.user.live)

    @rule(
        blocks=st.lists(st.integers(0, 1), max_size=6),
        rest=st.integers(1, PAGE),
        salt=st.sampled_from(["", "", "salt", None]),
        spare=st.integers(0, 2),
        sight=st.sampled_from(SIGHTS),
    )
    def open(
        self, blocks: list[int], rest: int, salt: str | None, spare: int, sight: Sight
    ) -> None:
        tokens = [block for block in blocks for _ in range(PAGE)] + [0] * rest
        self.user.open(tokens, salt, spare, sight)

    @precondition(lambda self: self.user.live)
    @rule(choice=st.integers(0, 99), count=st.integers(1, MAX_TOKENS))
    def compute(self, choice: int, count: int) -> None:
        self.user.compute(self._index(choice), count)

    @precondition(lambda self: self.user.live)
    @rule(choice=st.integers(0, 99), tokens=st.lists(st.integers(0, 1), min_size=1, max_size=9))
    def generate(self, choice: int, tokens: list[int]) -> None:
        index = self._index(choice)
        for token in tokens[: MAX_TOKENS - len(self.user.live[index][1])]:
            self.user.append(index, token)
            self.user.compute(index, 1)

    @precondition(lambda self: self.user.live)
    @rule(choice=st.integers(0, 99))
    def catch_up(self, choice: int) -> None:
        self.user.catch_up(self._index(choice))

    @precondition(lambda self: self.user.live)
    @rule(choice=st.integers(0, 99))
    def release(self, choice: int) -> None:
        self.user.release(self._index(choice))

    @invariant()
    def books_agree(self) -> None:
        if hasattr(self, "user"):
            self.user.check()

    def teardown(self) -> None:
        if not hasattr(self, "user"):
            return
        while self.user.live:
            self.user.release(0)
        assert self.user.kv.pages_used == 0
        self.user.check()


@pytest.mark.tiny
def test_any_order_of_operations_keeps_the_books() -> None:
    limits = settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True)
    run_state_machine_as_test(Machine, settings=limits)


def operate(user: PageUser, rng: random.Random) -> None:
    """One random operation, with prompts that often share a prefix."""
    choice = rng.random()
    if not user.live or (choice < 0.15 and len(user.live) < 12):
        blocks = [rng.choice((0, 0, 1)) for _ in range(rng.randint(0, 7))]
        tokens = [block for block in blocks for _ in range(PAGE)]
        tokens += [0] * rng.randint(1, PAGE)
        salt, sight = rng.choice(("", "", "", "salt", None)), rng.choice(SIGHTS)
        user.open(tokens, salt, rng.randint(0, 2), sight)
        return
    index = rng.randrange(len(user.live))
    pages, tokens, _ = user.live[index]
    if choice < 0.25:
        user.release(index)
    elif choice < 0.35:
        user.catch_up(index)
    elif choice < 0.6 and len(tokens) < MAX_TOKENS:
        user.append(index, rng.randint(0, 1))
    elif pages.computed == len(tokens) or user.compute(index, rng.choice((1, 3, 7, 40))) == 0:
        user.release(rng.randrange(len(user.live)))


def test_a_hundred_thousand_operations_keep_the_books() -> None:
    done = 0

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
    @given(groups=groups(), sharing=st.integers(0, 9), seed=st.integers(0, 2**32))
    def run(groups: list[KVGroup], sharing: int, seed: int) -> None:
        nonlocal done
        user, rng = PageUser(groups, sharing > 0), random.Random(seed)
        for operation in range(NUM_OPERATIONS // EXAMPLES):
            operate(user, rng)
            done += 1
            if operation % BATCH == 0:
                user.check()
        while user.live:
            user.release(0)
        user.check()
        assert user.kv.pages_used == 0

    run()
    assert done >= NUM_OPERATIONS
