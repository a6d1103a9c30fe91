"""Bits per byte: each token counts once, with the context that the protocol promises."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from vivace.core.errors import UsageError
from vivace.evaluate.bits import bits_per_byte
from vivace.evaluate.corpus import TextFile
from vivace.evaluate.plans import Protocol

pytestmark = pytest.mark.tiny

VOCAB = 257
START = 256


def encode(text: str) -> list[int]:
    return [START, *text.encode()]


def uniform(token_ids: Sequence[int]) -> NDArray[np.float32]:
    return np.zeros((len(token_ids), VOCAB), np.float32)


def counting(token_ids: Sequence[int]) -> NDArray[np.float32]:
    """Nearly sure that byte b is followed by b + 1, and sure of nothing after a start token."""
    rows = uniform(token_ids)
    for row, token in zip(rows, token_ids, strict=True):
        if token != START:
            row[(token + 1) % START] = 1000
    return rows


@pytest.mark.parametrize(("context", "stride"), [(8, 8), (8, 3), (8, 1), (100, 50)])
@pytest.mark.parametrize("length", [2, 8, 9, 10, 17, 40, 101])
def test_every_token_is_scored_once_with_enough_before_it(
    context: int, stride: int, length: int
) -> None:
    scored = []
    for start, first, end in Protocol(context, stride).windows(length):
        assert end - start <= context
        assert start == 0 or first - start >= context - stride
        scored += range(first, end)
    assert scored == list(range(length - 1))


def test_a_uniform_model_needs_the_logarithm_of_its_vocabulary() -> None:
    texts = [TextFile("a.py", "héllo"), TextFile("b.py", "x" * 30)]
    result = bits_per_byte(uniform, encode, texts, Protocol(8, 4))
    assert (result.num_bytes, result.num_tokens) == (36, 36)
    assert result.value == pytest.approx(math.log2(VOCAB))


@pytest.mark.parametrize(("context", "stride"), [(16, 16), (16, 5), (1000, 1000)])
def test_predictions_meet_the_tokens_they_are_of(context: int, stride: int) -> None:
    text = TextFile("a.py", "".join(chr(1 + i % 100) for i in range(90)))
    result = bits_per_byte(counting, encode, [text], Protocol(context, stride))
    assert result.bits == pytest.approx(math.log2(VOCAB))  # the first byte alone


def test_a_model_that_is_surely_wrong_pays_for_it() -> None:
    result = bits_per_byte(counting, encode, [TextFile("a.py", "ca")])
    assert result.bits == pytest.approx(1000 / math.log(2) + math.log2(VOCAB))


@pytest.mark.parametrize(("context", "stride"), [(8, 0), (8, 9), (0, 0)])
def test_a_stride_must_fit_its_context(context: int, stride: int) -> None:
    with pytest.raises(UsageError, match="stride must be"):
        Protocol(context, stride)
