"""Sinks and a window, against the recipe they come from: keys kept unturned, turned when read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from attention_cases import attend, batch_of, before
from cpu_cases import ROWS, Floats, Span, Weights

from vivace.backends.protocol import AttentionSpec, Backend, RotarySpec
from vivace.backends.reference import ReferenceBackend
from vivace.backends.reference.steps import turn as turned
from vivace.core.sight import ALL, Sight

TURN = RotarySpec((1.0, 0.3, 0.05), 1.3, 2048)
SPEC = AttentionSpec(4, 2, 8, scale=0.4)
SIGHTS = [Sight(20, 4), Sight(3, 1), Sight(7, 0), Sight(16, 16), Sight(5, 20)]
SPANS = [Span(0, 90), Span(60, 30, 8), Span(79, 1, 16)]


def streaming(x: Floats, sight: Sight) -> Floats:
    """Row by row as Xiao et al. describe it: what is kept takes the positions 0, 1, ... in the
    cache. x [n, (heads + 2 * kv_heads) * head_dim]; all of a layer's keys, seen whole where they
    fit."""
    heads, kv_heads, dim = SPEC.num_heads, SPEC.num_kv_heads, SPEC.head_dim
    q, k, v = np.split(x.reshape(len(x), -1, dim), [heads, heads + kv_heads], axis=1)
    table = ReferenceBackend().rotary(TURN)
    out = np.zeros((len(x), heads, dim))
    for row in range(len(x)):
        fits = sight.window is None or row < sight.sinks + sight.window
        window = row + 1 if fits else sight.window
        kept = [] if fits else list(range(sight.sinks))
        kept += range(row + 1 - window, row + 1)
        places = np.arange(len(kept))
        keys = turned(k[kept], table.cos[places], table.sin[places])
        query = turned(q[row : row + 1], table.cos[places[-1:]], table.sin[places[-1:]])[0]
        for head in range(heads):
            of = head // (heads // kv_heads)
            weights = np.exp(SPEC.scale * keys[:, of].astype(np.float64) @ query[head])
            out[row, head] = weights @ v[kept, of] / weights.sum()
    return out.reshape(len(x), -1)


def check(backend: Backend, sight: Sight, spec: AttentionSpec = SPEC) -> None:
    """Sequences at work together, some from their start and some decoding; one sees all."""
    values = Weights().rng.standard_normal((ROWS, 64)).astype(np.float32)
    sights = [sight, sight, ALL]
    batches = [*before(SPANS), batch_of(SPANS, sights)]
    actual = attend(backend, spec, batches, values, turn=TURN)[-1]
    expected = []
    for span, of in zip(SPANS, sights, strict=True):
        ids = (7 * np.arange(span.start + span.count) + 31 * span.seed) % ROWS
        expected.append(streaming(values[ids], of)[span.start :])
    np.testing.assert_allclose(actual, np.concatenate(expected), atol=5e-5)


@pytest.mark.tiny
@pytest.mark.parametrize("sight", SIGHTS, ids=str)
def test_what_is_kept_takes_positions_in_the_cache(sight: Sight) -> None:
    check(ReferenceBackend(), sight)


@pytest.mark.oracle
@pytest.mark.parametrize("sight", SIGHTS, ids=str)
def test_torch_sees_the_same(sight: Sight) -> None:
    from vivace.backends.torch import TorchBackend

    check(TorchBackend("float32"), sight)


@pytest.mark.tiny
def test_behind_a_cut_rows_see_from_its_first_place_on() -> None:
    """As if the sequence began there: without rotation, positions are nothing else."""
    values = Weights().rng.standard_normal((ROWS, 64)).astype(np.float32)
    sight = Sight(kept=20).of_prompt(60)
    batches = [batch_of([Span(0, 60)]), batch_of([Span(60, 30)], [sight])]
    found = attend(ReferenceBackend(), SPEC, batches, values)[1]
    late = batch_of([Span(0, 50)])
    late = replace(late, token_ids=batch_of([Span(40, 50)]).token_ids)
    np.testing.assert_allclose(
        found, attend(ReferenceBackend(), SPEC, [late], values)[0][20:], atol=1e-6
    )


@pytest.mark.tiny
def test_a_layers_narrower_window_goes_before() -> None:
    narrow = AttentionSpec(4, 2, 8, scale=0.4, window=6)
    values = Weights().rng.standard_normal((ROWS, 64)).astype(np.float32)

    def run(*sights: Any) -> Floats:
        return attend(ReferenceBackend(), narrow, [batch_of(SPANS[:1], *sights)], values)[0]

    np.testing.assert_array_equal(run([Sight(5, 1)]), run())
    assert not np.array_equal(run([Sight(4, 1)]), run())
