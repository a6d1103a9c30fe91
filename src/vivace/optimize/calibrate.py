"""Calibration text: what a model reads while it is made smaller, to show its activations."""

from __future__ import annotations

import hashlib
import sysconfig
import tokenize
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivace.core.errors import UsageError
from vivace.optimize.plans import CalibrationPlan

TokenIds: TypeAlias = NDArray[np.int32]
Encode: TypeAlias = Callable[[str], Sequence[int]]
Text: TypeAlias = Callable[[], str]  # read only where it is drawn

_HELD_OUT_MODULUS = 20  # as where the held-out text was chosen (docs/vivace-mini.md)
_LEFT_OUT = {"site-packages", "test", "tests", "idle_test", "__pycache__", "encodings"}
_DRAWS_PER_SAMPLE = 4  # how many samples' worth of text is read for each


def default_texts() -> list[Text]:
    """Files of the running Python's standard library, none of those that are ever held out."""
    root = Path(sysconfig.get_path("stdlib"))
    paths = sorted(root.rglob("*.py"))
    return [partial(_source, path) for path in paths if _is_included(root, path)]


def draw(texts: Sequence[Text], encode: Encode, plan: CalibrationPlan) -> list[TokenIds]:
    """Runs of tokens from random places of random texts; the same for the same seed.

    Raises:
        UsageError: there is too little text for a single run.
    """
    rng = np.random.default_rng(plan.seed)
    long, wanted = [], _DRAWS_PER_SAMPLE * plan.samples * plan.sample_len
    for place in rng.permutation(len(texts)):
        tokens = np.asarray(encode(texts[place]()), np.int32)
        if len(tokens) >= plan.sample_len:
            long.append(tokens)
        if sum(map(len, long)) >= wanted:
            break
    if not long:
        raise UsageError(
            f"No text for calibration has {plan.sample_len} tokens; give more text, or a smaller "
            "--sample-len."
        )
    shares = np.asarray([len(tokens) for tokens in long], np.float64)
    chosen = rng.choice(len(long), plan.samples, p=shares / shares.sum())
    starts = [int(rng.integers(len(long[i]) - plan.sample_len + 1)) for i in chosen]
    return [
        long[i][start : start + plan.sample_len] for i, start in zip(chosen, starts, strict=True)
    ]


def encoded(texts: Sequence[Text], encode: Encode) -> list[TokenIds]:
    """All of some texts, less those of a single token."""
    documents = (np.asarray(encode(text()), np.int32) for text in texts)
    return [tokens for tokens in documents if len(tokens) > 1]


def digest(runs: Sequence[TokenIds]) -> str:
    """Tells one set of runs from another."""
    return hashlib.sha256(np.concatenate(runs).tobytes()).hexdigest()[:16]


def _is_included(root: Path, path: Path) -> bool:
    name = path.relative_to(root).as_posix()
    held_out = int(hashlib.sha256(name.encode()).hexdigest(), 16) % _HELD_OUT_MODULUS == 0
    return not held_out and not _LEFT_OUT.intersection(name.split("/"))


def _source(path: Path) -> str:
    try:
        with tokenize.open(path) as stream:
            return stream.read()
    except (OSError, SyntaxError, UnicodeDecodeError):
        return ""
