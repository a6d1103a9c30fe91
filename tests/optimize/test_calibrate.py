"""Calibration text: seeded, long enough, and never what is held out."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from vivace.core.errors import UsageError
from vivace.evaluate.corpus import held_out_files
from vivace.optimize.calibrate import default_texts, digest, draw
from vivace.optimize.plans import CalibrationPlan

pytestmark = pytest.mark.tiny

TEXTS = [partial(str, "abc" * 100), partial(str, "xy" * 300), partial(str, "too short")]
PLAN = CalibrationPlan(samples=8, sample_len=50)


def encode(text: str) -> list[int]:
    return list(text.encode())


def test_runs_are_those_of_the_seed() -> None:
    first, again = draw(TEXTS, encode, PLAN), draw(TEXTS, encode, PLAN)
    other = draw(TEXTS, encode, CalibrationPlan(8, 50, seed=1))
    assert digest(first) == digest(again) != digest(other)
    assert [len(run) for run in first] == [50] * 8
    texts = [text() for text in TEXTS]
    for run in first:
        assert any(bytes(run.astype(np.uint8)).decode() in text for text in texts)


def test_too_little_text_is_refused() -> None:
    with pytest.raises(UsageError, match="has 50 tokens; give more text"):
        draw(TEXTS[2:], encode, PLAN)


def test_the_default_is_never_held_out() -> None:
    held_out = {file.text for file in held_out_files()}
    texts = default_texts()
    assert len(texts) > 100
    assert not any(text() in held_out for text in texts)
