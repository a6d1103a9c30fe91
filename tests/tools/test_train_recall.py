"""The model of the recall task can be trained, and is a model folder like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vivace.evaluate.pairs import KEYS, VOCABULARY
from vivace.formats.checkpoint import open_checkpoint

pytestmark = pytest.mark.oracle


def test_a_step_of_training_writes_a_model(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from train_recall import BATCH_TOKENS, train

    (report,) = train(tmp_path, steps=1, seed=0)
    assert report["pairs"] * 4 <= BATCH_TOKENS
    assert 0.9 < report["loss"] / np.log(VOCABULARY) < 1.2
    assert open_checkpoint(tmp_path).config["vocab_size"] == VOCABULARY


def test_sequences_grow_and_ask_for_values() -> None:
    pytest.importorskip("torch")
    from train_recall import FEWEST, LEARNED, MOST, draw_batch, pairs_after

    assert pairs_after(FEWEST, LEARNED - 0.1) == FEWEST < pairs_after(FEWEST, LEARNED)
    assert pairs_after(MOST, 1.0) == MOST
    tokens, first = draw_batch(np.random.default_rng(0), MOST)
    assert (tokens[:, first::2] < KEYS).all()
    assert (tokens[:, first + 1 :: 2] >= KEYS).all()
    assert tokens.shape[1] <= 512
