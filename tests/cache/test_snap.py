"""What is kept of a prompt: the votes of its last rows, the choice, and the move."""

from __future__ import annotations

import numpy as np
import pytest

from vivace.backends.protocol import PAGE_TOKENS, AttentionSpec, KVSpec
from vivace.backends.reference import ReferenceBackend
from vivace.cache.snap import GroupCutter, chosen, votes
from vivace.core.sight import OBSERVED_TOKENS

pytestmark = pytest.mark.tiny

SPEC = AttentionSpec(4, 2, 8, scale=0.7)


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_votes_are_what_the_last_rows_look_at(softcap: float | None) -> None:
    rng = np.random.default_rng(3)
    spec = AttentionSpec(4, 2, 8, scale=0.7, softcap=softcap)
    queries = rng.normal(size=(5, 4, 8)).astype(np.float32)
    keys = rng.normal(size=(20, 2, 8)).astype(np.float32)
    expected = np.zeros((2, 15))
    for row in range(5):
        for head in range(4):
            scores = 0.7 * keys[: 16 + row, head // 2].astype(np.float64) @ queries[row, head]
            if softcap is not None:
                scores = softcap * np.tanh(scores / softcap)
            expected[head // 2] += softmax(scores)[:15]
    np.testing.assert_allclose(votes(queries, keys, spec), expected, atol=1e-5)


def test_neighbours_of_what_is_looked_at_are_kept_too() -> None:
    found = np.zeros((2, 30), np.float32)
    found[0, 12], found[0, 29], found[1, 0] = 2, 1, 1
    places = chosen(found, 9)
    assert places[0].tolist() == [9, 10, 11, 12, 13, 14, 15, 26, 27]
    assert places[1].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]  # of equals the first


@pytest.mark.parametrize(("cut", "kept"), [(70, 40), (64, 33), (200, 160)])
def test_what_is_kept_moves_to_the_last_places(cut: int, kept: int) -> None:
    rng = np.random.default_rng(1)
    backend, group = ReferenceBackend(), KVSpec(2, 2, 8)
    blocks, first = -(-cut // PAGE_TOKENS), cut - kept
    cache = backend.kv_cache(group, blocks + 1)
    for stored in cache.arrays:
        stored[:] = rng.normal(size=stored.shape)
    table = [(5 * block) % blocks + 1 if blocks % 5 else block + 1 for block in range(blocks)]
    queries = rng.normal(size=(2, OBSERVED_TOKENS, 4 * 8)).astype(np.float32)
    before = [stored.copy() for stored in cache.arrays]
    GroupCutter(backend, cache, group, [SPEC, SPEC]).keep(queries, table, first, cut)
    for layer in range(2):
        keys = before[0][layer, table].reshape(-1, 2, 8)
        rows = queries[layer].reshape(-1, 4, 8)
        places = chosen(votes(rows, keys[:cut], SPEC), kept - OBSERVED_TOKENS)
        for old, new in zip(before, cache.arrays, strict=True):
            was, now = (stored[layer, table].reshape(-1, 2, 8) for stored in (old, new))
            for head in range(2):
                kept_of_head = [*places[head], *range(cut - OBSERVED_TOKENS, cut)]
                np.testing.assert_array_equal(now[first:cut, head], was[kept_of_head, head])
            np.testing.assert_array_equal(now[:first], was[:first])  # others may share these
            np.testing.assert_array_equal(now[cut:], was[cut:])
