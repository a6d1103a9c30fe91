"""Which prompts are continued, and how agreement is counted."""

from __future__ import annotations

import pytest

from vivace.evaluate.continuations import common_prefix, prompts_of
from vivace.evaluate.plans import EvalPlan
from vivace.evaluate.scoring import Window
from vivace.evaluate.summary import greedy_agreement

pytestmark = pytest.mark.tiny


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [([1, 2, 3], [1, 2, 3], 3), ([1, 2, 3], [1, 5, 3], 1), ([1, 2], [2, 1], 0), ([], [], 0)],
)
def test_what_comes_before_the_first_difference(
    first: list[int], second: list[int], same: int
) -> None:
    assert common_prefix(first, second) == same


def test_prompts_are_beginnings_of_windows_at_even_distances() -> None:
    windows = [Window(list(range(n, n + 9)), [0], 1) for n in range(10)]
    plan = EvalPlan(greedy_prompts=4, greedy_prompt_len=3)
    assert [prompt[0] for prompt in prompts_of(windows, plan)] == [0, 2, 5, 7]
    assert {len(prompt) for prompt in prompts_of(windows, plan)} == {3}
    assert len(prompts_of(windows[:2], plan)) == 2


def test_agreement_counts_tokens_and_whole_answers() -> None:
    base = [[1, 2, 3, 4]] * 4
    other = [[1, 2, 3, 4], [1, 2, 9, 4], [9, 2, 3, 4], [1, 2, 3, 4]]
    figures = greedy_agreement(base, other)
    assert figures["greedy_agreement"].value == (4 + 2 + 0 + 4) / 16
    assert figures["greedy_identical"].value == 0.5
