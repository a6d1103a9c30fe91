"""Sinks and a window on the cpu backend: right, and the same however work is cut."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from attention_cases import PAGES, attend, batch_of, before
from cpu_cases import ROWS, Floats, Span, Weights, ints, relative_error

from vivace.backends.protocol import PAGE_TOKENS, AttentionSpec, Backend, Batch, RotarySpec
from vivace.backends.reference import ReferenceBackend
from vivace.core.errors import BackendError
from vivace.core.sight import ALL, Sight

pytest.importorskip("vivace.backends.cpu._native")

from vivace.backends.cpu import CpuBackend, _native
from vivace.hardware.isa import levels_up_to

TURN = RotarySpec(tuple((10.0 ** -(np.arange(20) / 8)).tolist()), 1.0, 2048)
TOLERANCE = {"float32": 2e-5, "bfloat16": 2e-2}
SPEC = AttentionSpec(8, 2, 64, 0.125)
SPECS = [SPEC, AttentionSpec(5, 1, 40, 0.2, softcap=20.0), AttentionSpec(3, 3, 64, 0.2, window=600)]
SIGHTS = [Sight(100, 4), Sight(300, 150), Sight(700, 16), Sight(40, 0), Sight(5, 3)]
# Rows before, at and behind the place where each of the sights begins to evict.
MIXED = [
    Span(1055, 1, 0),
    Span(90, 40, 80),
    Span(0, 330, 113),
    Span(440, 30, 140),
    Span(700, 30, 180),
]


@pytest.fixture(params=levels_up_to(_native.best_isa()))
def isa(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


def rows(
    backend: Backend, batches: Sequence[Batch], spec: AttentionSpec = SPEC, **options: Any
) -> list[Floats]:
    return attend(backend, spec, batches, turn=TURN, **options)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_mixed_batches_are_right(isa: str, dtype: Any, spec: AttentionSpec) -> None:
    batches = before(MIXED)
    for shift in range(len(MIXED)):
        sights = SIGHTS[shift:] + SIGHTS[:shift]
        batches.append(batch_of(MIXED, sights))
    expected = rows(ReferenceBackend(dtype), batches, spec, sinks=2.0)
    actual = rows(CpuBackend(dtype, threads=2, isa=isa), batches, spec, sinks=2.0)
    for one, other in zip(actual[-len(MIXED) :], expected[-len(MIXED) :], strict=True):
        assert relative_error(one, other) < TOLERANCE[dtype]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_behind_a_cut_nothing_is_seen_before_its_first_place(
    isa: str, dtype: Any, spec: AttentionSpec
) -> None:
    spans = [Span(1055, 1, 0), Span(90, 40, 80), Span(600, 30, 113)]
    sights = [Sight(kept=300).of_prompt(700), Sight(kept=33).of_prompt(90), Sight(kept=9)]
    batches = [*before(spans), batch_of(spans, sights)]
    expected = rows(ReferenceBackend(dtype), batches, spec)[-1]
    actual = rows(CpuBackend(dtype, threads=2, isa=isa), batches, spec)[-1]
    assert relative_error(actual, expected) < TOLERANCE[dtype]


def test_behind_a_cut_a_row_is_the_same_however_work_is_cut(isa: str, dtype: Any) -> None:
    sight, length = Sight(kept=150).of_prompt(400), 1040
    before_cut = batch_of([Span(0, 400)])
    one = CpuBackend(dtype, threads=1, isa=isa)
    whole = rows(one, [before_cut, batch_of([Span(400, length - 400)], [sight])])[1]
    ends = [400, 407, 520, 1000, length - 1, length]
    chunks = [batch_of([Span(a, b - a)], [sight]) for a, b in itertools.pairwise(ends)]
    for threads in (2, 3):
        parts = rows(CpuBackend(dtype, threads=threads, isa=isa), [before_cut, *chunks])[1:]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("sight", SIGHTS, ids=str)
def test_a_row_is_the_same_however_work_is_cut(isa: str, dtype: Any, sight: Sight) -> None:
    """As one prefill on one thread, in chunks, and alone on more threads than it has KV heads."""
    length = 1040
    one = CpuBackend(dtype, threads=1, isa=isa)
    whole = rows(one, [batch_of([Span(0, length)], [sight])])[0]
    ends = [0, 7, 105, 520, 1000, length - 2, length - 1, length]
    chunks = [batch_of([Span(a, b - a)], [sight]) for a, b in itertools.pairwise(ends)]
    for threads in (2, 3):
        parts = rows(CpuBackend(dtype, threads=threads, isa=isa), chunks)
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_cache_that_holds_all_changes_nothing(isa: str, dtype: Any) -> None:
    """To the bit, and in the company of rows that evict."""
    backend = CpuBackend(dtype, threads=2, isa=isa)
    spans = [Span(0, 600), Span(0, 300, 60)]
    plain = rows(backend, [batch_of(spans)])[0]
    wide = rows(backend, [batch_of(spans, [Sight(596, 4), Sight(50, 4)])])[0]
    np.testing.assert_array_equal(wide[:600], plain[:600])
    evicted = plain[600:] != wide[600:]
    assert not evicted[:54].any()
    assert evicted[54:].any(axis=1).all()


def test_what_is_evicted_is_not_read(isa: str, dtype: Any) -> None:
    """Its pages are another's by then: here they hold what is no number."""
    sight, length = Sight(60, 4), 400
    width = (SPEC.num_heads + 2 * SPEC.num_kv_heads) * SPEC.head_dim
    values = Weights().rng.standard_normal((ROWS, width)).astype(np.float32)
    values[ROWS - 1] = np.nan
    backend = CpuBackend(dtype, threads=2, isa=isa)

    def sane(batch: Batch) -> Batch:
        return replace(batch, token_ids=batch.token_ids % (ROWS - 1))

    context, step = sane(batch_of([Span(0, length)])), sane(batch_of([Span(length, 9)], [sight]))
    gone = step.block_tables[0].copy()
    first = (length - sight.window + 1) // PAGE_TOKENS if sight.window else 0
    gone[:, 1:first] = PAGES - 1
    poison = batch_of([Span(0, PAGE_TOKENS)])
    poison = replace(
        poison,
        token_ids=np.full_like(poison.token_ids, ROWS - 1),
        block_tables=(ints([[PAGES - 1]]),),
    )
    expected = rows(backend, [context, step], values=values)[1]
    batches = [context, poison, replace(step, block_tables=(gone,))]
    np.testing.assert_array_equal(rows(backend, batches, values=values)[2], expected)
    assert np.isfinite(expected).all()


def test_company_changes_nothing(isa: str, dtype: Any) -> None:
    """A long decode is cut into parts when alone, and not beside many others."""
    spans = [Span(1500, 1, 0), Span(90, 1, 110), Span(0, 40, 120)]
    sights = [Sight(1200, 4), Sight(30, 4), ALL]
    backend = CpuBackend(dtype, threads=2, isa=isa)
    together = rows(backend, [*before(spans), batch_of(spans, sights)])[-1]
    alone = rows(backend, [*before(spans), batch_of(spans[:1], sights[:1])])[-1]
    np.testing.assert_array_equal(together[:1], alone)


def test_sights_that_make_no_sense_are_refused() -> None:
    backend = CpuBackend("float32", threads=1)
    for sights in ([[5, -1, 0]], [[-5, 0, 0]], [[5, 1, 0], [5, 1, 0]]):
        with pytest.raises(BackendError, match="window"):
            rows(backend, [replace(batch_of([Span(0, 3)]), sights=ints(sights))])
    with pytest.raises(BackendError, match="see itself"):
        rows(backend, [replace(batch_of([Span(0, 3)]), sights=ints([[0, 0, 1]]))])
