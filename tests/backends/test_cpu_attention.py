"""Attention over long, ragged and scattered pages: right, and the same however it is cut."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from attention_cases import attend, batch_of, before
from cpu_cases import ROWS, Span, Weights, relative_error

from vivace.backends.protocol import AttentionSpec
from vivace.backends.reference import ReferenceBackend

pytest.importorskip("vivace.backends.cpu._native")

from vivace.backends.cpu import CpuBackend, _native
from vivace.hardware.isa import levels_up_to

# What the order of float32 sums explains, and what rounding to bfloat16 explains.
TOLERANCE = {"float32": 2e-5, "bfloat16": 2e-2}

GROUPED = AttentionSpec(8, 2, 64, 0.125)
SPECS = [
    GROUPED,
    AttentionSpec(3, 1, 64, 0.125, softcap=20.0),
    AttentionSpec(5, 1, 128, 0.09, window=600),
    AttentionSpec(3, 3, 64, 0.125, window=100),
    AttentionSpec(5, 1, 40, 0.2),
]
# Decodes before, at and behind the ends of pages, super-blocks and parts, chunks and prefills.
MIXED = [
    Span(1055, 1, 0),
    Span(511, 2, 80),
    Span(0, 33, 113),
    Span(128, 1, 116),
    Span(300, 40, 125),
]


@pytest.fixture(params=levels_up_to(_native.best_isa()))
def isa(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_mixed_batches_are_right(isa: str, dtype: Any, spec: AttentionSpec) -> None:
    batches = [*before(MIXED), batch_of(MIXED)]
    expected = attend(ReferenceBackend(dtype), spec, batches, sinks=2.0)[-1]
    actual = attend(CpuBackend(dtype, threads=2, isa=isa), spec, batches, sinks=2.0)[-1]
    assert relative_error(actual, expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_row_is_the_same_however_work_is_cut(isa: str, dtype: Any, spec: AttentionSpec) -> None:
    """As one prefill on one thread, in chunks, and alone on more threads than it has KV heads."""
    length = 1040
    whole = attend(CpuBackend(dtype, threads=1, isa=isa), spec, [batch_of([Span(0, length)])])[0]
    ends = [0, 7, 520, 1000, length - 2, length - 1, length]
    chunks = [batch_of([Span(a, b - a)]) for a, b in itertools.pairwise(ends)]
    for threads in (2, 3):
        parts = attend(CpuBackend(dtype, threads=threads, isa=isa), spec, chunks)
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_company_changes_nothing(isa: str, dtype: Any) -> None:
    """A long decode is cut into parts when alone, and not beside many others."""
    spans = [Span(700, 1, 0), Span(90, 1, 50), Span(0, 40, 60)]
    batches = [*before(spans), batch_of(spans)]
    together = attend(CpuBackend(dtype, threads=2, isa=isa), GROUPED, batches)[-1]
    batches[-1] = batch_of(spans[:1])
    alone = attend(CpuBackend(dtype, threads=2, isa=isa), GROUPED, batches)[-1]
    np.testing.assert_array_equal(together[:1], alone)


@pytest.mark.parametrize("length", [1, 15, 16, 129, 513])
def test_what_pages_held_before_is_forgotten(isa: str, dtype: Any, length: int) -> None:
    width = (GROUPED.num_heads + 2 * GROUPED.num_kv_heads) * GROUPED.head_dim
    values = Weights().rng.standard_normal((ROWS, width)).astype(np.float32)
    values[ROWS - 1] = np.nan
    clean = batch_of([Span(0, length)])
    # The token that is not a number is none of the sequence's own.
    clean = replace(clean, token_ids=clean.token_ids % (ROWS - 1))
    poison = batch_of([Span(0, 640)])
    poison = replace(poison, token_ids=np.full_like(poison.token_ids, ROWS - 1))
    backend = CpuBackend(dtype, threads=2, isa=isa)
    expected = attend(backend, GROUPED, [clean], values)[0]
    actual = attend(backend, GROUPED, [poison, clean], values)[1]
    np.testing.assert_array_equal(actual, expected)
    assert np.isfinite(actual).all()


@pytest.mark.parametrize("size", [0.0, 1e-20, 30.0, 1e6])
def test_extreme_scores(isa: str, dtype: Any, size: float) -> None:
    """From all alike to one that takes all: weights sum to one, so values stay within theirs."""
    heads = GROUPED.num_heads + GROUPED.num_kv_heads
    rng = Weights().rng
    # Powers of two that bfloat16 holds exactly: scores are far apart or equal, never close.
    values = np.exp2(rng.integers(0, 2, (ROWS, (heads + 2) * 64))).astype(np.float32)
    values[:, : heads * 64] *= np.float32(size) * rng.choice([-1.0, 1.0], (ROWS, heads * 64))
    batches = [*before([Span(600, 20)]), batch_of([Span(600, 20)])]
    expected = attend(ReferenceBackend(dtype), GROUPED, batches, values, sinks=0.1)[-1]
    actual = attend(CpuBackend(dtype, threads=2, isa=isa), GROUPED, batches, values, 0.1)[-1]
    assert np.isfinite(actual).all()
    assert np.abs(actual).max() <= 2.0 + TOLERANCE[dtype]
    assert relative_error(actual, expected) < TOLERANCE[dtype]
