"""Questions about what stood in the text, to models that look back far enough, or not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.evaluate.byte_tokens import VOCAB, Bytes
from vivace.evaluate.corpus import TextFile
from vivace.evaluate.plans import EvalPlan, Protocol
from vivace.evaluate.recall import questions, recalled
from vivace.evaluate.scoring import LogitBatches, Window, cut
from vivace.evaluate.summary import recall

pytestmark = pytest.mark.tiny

CONTEXT = 400
LINES = "".join(f"line {n:03} of a tëxt\n" for n in range(80))  # of 20 bytes: four windows
WINDOWS = cut([TextFile("a", LINES)], Bytes(), Protocol(CONTEXT, CONTEXT))
PLAN = EvalPlan(recall_prompts=10)
ASKED = questions(WINDOWS, Bytes(), PLAN)
MATCHED = len("total_0 = ")


def read(token_ids: Sequence[int]) -> str:
    return b"".join(map(Bytes().token_bytes, token_ids[1:])).decode()


def looking_back(distance: int) -> LogitBatches:
    """A model that expects what followed the same bytes, at most `distance` tokens before."""

    def follower(token_ids: Sequence[int], place: int) -> int:
        recent = token_ids[place + 1 - MATCHED : place + 1]
        for start in range(place - MATCHED, max(place - distance, 0), -1):
            if token_ids[start : start + MATCHED] == recent:
                return token_ids[start + MATCHED]
        return 0

    def batches(token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(token_ids), 64):
            places = range(start, min(start + 64, len(token_ids)))
            yield np.eye(VOCAB, dtype=np.float32)[[follower(token_ids, p) for p in places]]

    return batches


def distance(question: Window) -> int:
    """From the value to where it is asked for."""
    text = read(question.token_ids)
    return len(text.encode()) - len(text[: text.index("total_")].encode())


def test_a_question_ends_with_a_name_that_stood_in_the_text() -> None:
    assert len(ASKED) == 10
    for place, question in enumerate(ASKED):
        value = bytes(question.targets).decode()
        assert re.fullmatch(r"[1-4]\d{4}", value)
        text = read([*question.token_ids, question.targets[-1]])
        stated = f"total_{place} = {value}"
        assert text.count(stated) == 2
        assert text.endswith(f"\n{stated}")
        assert f"\n{stated}\n" in text
        assert len(question.token_ids) <= CONTEXT


def test_assignments_stand_at_even_depths() -> None:
    found = [distance(question) for question in ASKED]
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.8 * CONTEXT > 0.2 * CONTEXT > found[-1]


@pytest.mark.parametrize("count", [None, 1, 40])
def test_as_many_as_are_asked_for(count: int | None) -> None:
    asked = questions(WINDOWS, Bytes(), EvalPlan(recall_prompts=count))
    assert len(asked) == (count or 0)
    assert len({tuple(question.targets) for question in asked}) == (count or 0)


def test_text_shorter_than_the_room_still_asks() -> None:
    windows = cut([TextFile("a", "short")], Bytes(), Protocol())
    (question,) = questions(windows, Bytes(), EvalPlan(recall_prompts=1))
    value = bytes(question.targets).decode()
    assert read(question.token_ids) == f"\ntotal_0 = {value}\n\ntotal_0 = {value[:-1]}"


@pytest.mark.parametrize("reach", [10**6, 200, 20])
def test_who_looks_back_far_enough_answers(reach: int) -> None:
    found = recalled(looking_back(reach), ASKED)
    margin = 2 * MATCHED
    for question, right in zip(ASKED, found, strict=True):
        if distance(question) < reach - margin:
            assert right
        if distance(question) > reach + margin:
            assert not right
    assert recall(found).value == sum(found) / len(found)


@pytest.mark.parametrize("wrong", [0, 4])
def test_every_token_of_the_value_counts(wrong: int) -> None:
    def missing(question: Window) -> LogitBatches:
        def batches(token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
            expected = [0] * question.first + question.targets
            expected[question.first + wrong] = 0
            yield np.eye(VOCAB, dtype=np.float32)[expected]

        return batches

    assert recalled(missing(ASKED[0]), ASKED[:1]) == [False]


def test_progress_counts_questions() -> None:
    told: list[tuple[int, int]] = []
    recalled(looking_back(10), ASKED[:3], lambda *done: told.append(done))
    assert told == [(1, 3), (2, 3), (3, 3)]
