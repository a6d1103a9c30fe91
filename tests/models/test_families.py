"""Every family gives the logits of Transformers, from the files that Transformers wrote."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from decoder_runs import logits, paged_logits  # noqa: E402
from family_cases import CASES, LENGTH, Case  # noqa: E402
from oracle import Oracle, rewrite_config, save_checkpoint  # noqa: E402

from vivace.backends.reference import ReferenceBackend  # noqa: E402
from vivace.formats.checkpoint import open_checkpoint  # noqa: E402
from vivace.models.loader import load_decoder  # noqa: E402

pytestmark = pytest.mark.oracle

TOLERANCE = 1e-4
TOKENS = random.Random(3).choices(range(3, 67), k=LENGTH)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("style", ["new", "old"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_logits_and_greedy_tokens(case: Case, style: str, tmp_path: Path) -> None:
    save_checkpoint(case, tmp_path)
    if style == "old":
        rewrite_config(tmp_path)
    oracle = Oracle(case, tmp_path)
    backend = ReferenceBackend("float32")
    checkpoint = open_checkpoint(tmp_path)
    expected = oracle.logits(TOKENS)
    decoder = load_decoder(checkpoint, backend, LENGTH)
    assert relative_error(logits(decoder, backend, TOKENS), expected) < TOLERANCE
    paged = paged_logits(decoder, backend, TOKENS, (19, 20))
    assert relative_error(paged, expected) < TOLERANCE
