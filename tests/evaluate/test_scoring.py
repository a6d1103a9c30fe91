"""Windows of a text, scored in batches of rows: every token once, whatever the batches are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.evaluate.byte_tokens import VOCAB, Bytes
from vivace.core.errors import UsageError
from vivace.evaluate.bits import bits_per_byte
from vivace.evaluate.corpus import TextFile
from vivace.evaluate.plans import Protocol
from vivace.evaluate.scoring import LogitBatches, cut, score
from vivace.evaluate.summary import divergence, prediction

pytestmark = pytest.mark.tiny

TEXTS = [TextFile("a", "The quick brown fox. " * 9), TextFile("b", "Überall nichts." * 5)]
TABLE = np.random.default_rng(3).normal(0, 2, (VOCAB, VOCAB)).astype(np.float32)


def bigrams(token_ids: Sequence[int]) -> NDArray[np.float32]:
    """A model that sees one token back."""
    return TABLE[list(token_ids)]


def counting(token_ids: Sequence[int]) -> NDArray[np.float32]:
    """One whose rows know how far into the window they are."""
    return bigrams(token_ids) * np.arange(1, len(token_ids) + 1, dtype=np.float32)[:, None] / 50


def in_batches(rows: int, model: object = counting) -> LogitBatches:
    def batches(token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        logits = model(token_ids)  # type: ignore[operator]
        for start in range(0, len(logits), rows):
            yield logits[start : start + rows]

    return batches


@pytest.mark.parametrize(("context", "stride"), [(32, 16), (32, 32), (50, 7), (1000, 500)])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_bits_are_those_of_the_plain_sum(context: int, stride: int, rows: int) -> None:
    protocol = Protocol(context, stride)
    plain = bits_per_byte(counting, Bytes().encode, TEXTS, protocol)
    windows = cut(TEXTS, Bytes(), protocol)
    scores = score(in_batches(rows), windows)
    assert sum(window.num_bytes for window in windows) == plain.num_bytes
    assert len(scores.nats) == plain.num_tokens
    figures = prediction(scores.nats, scores, windows)
    assert figures["bits_per_byte"].value == pytest.approx(plain.value, rel=1e-12)
    nats_per_token = plain.bits * math.log(2) / plain.num_tokens
    assert figures["perplexity"].value == pytest.approx(math.exp(nats_per_token), rel=1e-12)


def test_bits_are_spread_over_the_bytes_that_tokens_stand_for() -> None:
    windows = cut(TEXTS, Bytes(), Protocol(32, 32))
    scores = score(in_batches(64), windows)
    longer = [replace(window, num_bytes=3 * window.num_bytes) for window in windows]
    plain, spread = (prediction(scores.nats, scores, each) for each in (windows, longer))
    assert spread["bits_per_byte"].value == pytest.approx(plain["bits_per_byte"].value / 3)
    assert spread["perplexity"] == plain["perplexity"]


def test_a_place_is_how_many_tokens_of_the_window_come_before() -> None:
    windows = cut([TextFile("a", "x" * 12)], Bytes(), Protocol(8, 4))
    assert [(len(w.token_ids), len(w.targets)) for w in windows] == [(8, 8), (8, 4)]
    scores = score(in_batches(3), windows)
    assert scores.places.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 7, 8]
    assert scores.windows.tolist() == [0] * 8 + [1] * 4


def test_windows_at_even_distances() -> None:
    protocol = Protocol(16, 16)
    every = cut(TEXTS, Bytes(), protocol)
    chosen = cut(TEXTS, Bytes(), protocol, 5)
    assert [every.index(window) for window in chosen] == [n * len(every) // 5 for n in range(5)]
    assert cut(TEXTS, Bytes(), protocol, 10**6) == every


def test_what_is_too_short_to_score() -> None:
    with pytest.raises(UsageError, match="shorter than two tokens"):
        cut([TextFile("a", "")], Bytes(), Protocol())


def test_beside_a_base_that_halves_the_logits() -> None:
    """Against the same sums written out over a whole matrix."""
    windows = cut(TEXTS, Bytes(), Protocol(32, 16))
    scores = score(in_batches(5, bigrams), windows, in_batches(5, lambda t: bigrams(t) / 2))
    assert scores.beside is not None
    seen = np.concatenate([window.token_ids[window.first :] for window in windows])
    ours = np.exp(TABLE[seen].astype(np.float64))
    base = np.exp(TABLE[seen].astype(np.float64) / 2)
    ours, base = (p / p.sum(axis=1, keepdims=True) for p in (ours, base))
    targets = np.concatenate([window.targets for window in windows])
    kl = (base * np.log(base / ours)).sum(axis=1)
    places = np.arange(len(seen))
    np.testing.assert_allclose(scores.nats, -np.log(ours[places, targets]), rtol=1e-9)
    np.testing.assert_allclose(scores.beside.base_nats, -np.log(base[places, targets]), rtol=1e-9)
    np.testing.assert_allclose(scores.beside.kl, kl, rtol=1e-9)
    assert scores.beside.same_top1.all()
    figures = divergence(scores, scores.beside, windows)
    assert figures["kl_mean"].value == pytest.approx(kl.mean())
    assert figures["kl_p99"].value == np.quantile(scores.beside.kl, 0.99, method="inverted_cdf")
    assert figures["top1_agreement"].value == 1
    ours_ppl, base_ppl = (
        prediction(nats, scores, windows)["perplexity"].value
        for nats in (scores.nats, scores.beside.base_nats)
    )
    assert figures["delta_nll"].value == pytest.approx(math.log(ours_ppl / base_ppl))


def test_progress_counts_the_tokens_read() -> None:
    told: list[tuple[int, int]] = []
    windows = cut(TEXTS, Bytes(), Protocol(64, 64))
    score(in_batches(64), windows, progress=lambda *done: told.append(done))
    total = sum(len(window.token_ids) for window in windows)
    assert told[-1] == (total, total)
    assert len(told) == len(windows)
