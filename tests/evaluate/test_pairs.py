"""Associative recall: what is asked was told, once."""

from __future__ import annotations

import numpy as np
import pytest

from vivace.evaluate.pairs import KEYS, VOCABULARY, Pairs

pytestmark = pytest.mark.tiny


def test_questions_repeat_pairs_of_the_context() -> None:
    task = Pairs.draw(np.random.default_rng(0), pairs=100, questions=30)
    context, answers = task.context.reshape(-1, 2), task.answers.reshape(-1, 2)
    told = dict(context.tolist())
    assert len(told) == 100
    assert [told[key] for key in answers[:, 0].tolist()] == answers[:, 1].tolist()
    assert len(set(answers[:, 0].tolist())) == 30
    assert context[:, 0].max() < KEYS <= context[:, 1].min() <= context[:, 1].max() < VOCABULARY


def test_draws_differ() -> None:
    rng = np.random.default_rng(0)
    first, second = (Pairs.draw(rng, 10, 1) for _ in range(2))
    assert first.context.tolist() != second.context.tolist()
