"""Attention of the cpu backend over packed pages: right, and the same however work is cut."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from attention_cases import LIMITS, PAGES, batch_of
from cpu_cases import ROWS, Floats, Span, Weights, relative_error

from vivace.backends.protocol import AttentionSpec, Backend, Batch, FarKV, KVSpec, RotarySpec
from vivace.backends.reference import ReferenceBackend
from vivace.core.sight import Sight
from vivace.formats.kv_format import INT4_KV, INT8_KV, KV_FORMATS, KVFormat
from vivace.formats.qtensor import QTensor

pytest.importorskip("vivace.backends.cpu._native")

from test_cpu_attention import MIXED, TOLERANCE

from vivace.backends.cpu import CpuBackend, _native
from vivace.hardware.isa import levels_up_to

GROUPED = AttentionSpec(8, 2, 64, 0.125, far=FarKV(1, INT8_KV))
SPECS = [
    GROUPED,
    AttentionSpec(8, 2, 64, 0.125, far=FarKV(1, INT4_KV)),
    AttentionSpec(3, 1, 128, 0.09, softcap=20.0, far=FarKV(1, INT4_KV)),
    AttentionSpec(5, 1, 64, 0.125, window=600, far=FarKV(1, INT8_KV)),
    AttentionSpec(3, 3, 40, 0.2, window=100, far=FarKV(1, INT4_KV)),
    AttentionSpec(4, 4, 33, 0.2, far=FarKV(1, INT8_KV)),
]

TURN = RotarySpec((1.0, 0.3, 0.05), 1.3, 2048)
SIGHTS = [Sight(100, 4), Sight(33, 64), Sight(5, 1), Sight(40), Sight(560, 16)]


@pytest.fixture(params=levels_up_to(_native.best_isa()))
def isa(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


def batch(spans: Sequence[Span], sights: Sequence[Sight] | None = None) -> Batch:
    """With a page for each two of the first group's: of the same number as the first of them."""
    plain = batch_of(spans, sights)
    (near,) = plain.block_tables
    return replace(plain, block_tables=(near, near[:, ::2].copy()))


def before(spans: Sequence[Span]) -> list[Batch]:
    """One batch per sequence that writes what stands before the spans."""
    return [batch([replace(span, start=0, count=span.start)]) for span in spans if span.start]


@dataclass(frozen=True)
class Attended:
    """What batches gave that ran one after another over the same pages, and those pages."""

    rows: list[Floats]
    far: np.ndarray[Any, np.dtype[np.uint8]]


def attend(
    backend: Backend,
    spec: AttentionSpec,
    batches: Sequence[Batch],
    values: Floats | None = None,
    turn: RotarySpec | None = None,
) -> Attended:
    width = (spec.num_heads + 2 * spec.num_kv_heads) * spec.head_dim
    source = Weights().tensor(ROWS, width) if values is None else QTensor.from_array("qkv", values)
    table = backend.embedding(source)
    rotary = None if turn is None else backend.rotary(turn)

    def forward(ops: Any) -> Any:
        return ops.attention(ops.rotary_write(ops.embed(table), spec, rotary), spec)

    assert spec.far is not None
    near = KVSpec(1, spec.num_kv_heads, spec.head_dim, 1)
    groups = near, replace(near, window=spec.window, format=spec.far.format)
    caches = [backend.kv_cache(group, PAGES) for group in groups]
    program = backend.compile(forward, caches, LIMITS)
    rows = [backend.numpy(program.run(batch)).copy() for batch in batches]
    return Attended(rows, backend.read_pages(caches[1], range(PAGES)))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_mixed_batches_are_right(isa: str, dtype: Any, spec: AttentionSpec) -> None:
    batches = [*before(MIXED), batch(MIXED)]
    expected = attend(ReferenceBackend(dtype), spec, batches)
    actual = attend(CpuBackend(dtype, threads=2, isa=isa), spec, batches)
    np.testing.assert_array_equal(actual.far, expected.far)
    assert actual.far.any()
    assert relative_error(actual.rows[-1], expected.rows[-1]) < TOLERANCE[dtype]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_row_is_the_same_however_work_is_cut(isa: str, dtype: Any, spec: AttentionSpec) -> None:
    """As one prefill on one thread, in chunks, and alone on more threads than it has KV heads."""
    length = 1040
    whole = attend(CpuBackend(dtype, threads=1, isa=isa), spec, [batch([Span(0, length)])])
    ends = [0, 7, 31, 32, 520, 1000, length - 2, length - 1, length]
    chunks = [batch([Span(a, b - a)]) for a, b in itertools.pairwise(ends)]
    for threads in (2, 3):
        parts = attend(CpuBackend(dtype, threads=threads, isa=isa), spec, chunks)
        np.testing.assert_array_equal(np.concatenate(parts.rows), whole.rows[0])
        np.testing.assert_array_equal(parts.far, whole.far)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_sinks_and_a_window_are_right(isa: str, dtype: Any, spec: AttentionSpec) -> None:
    batches = before(MIXED)
    batches += [batch(MIXED, [sight] * len(MIXED)) for sight in SIGHTS]
    expected = attend(ReferenceBackend(dtype), spec, batches, turn=TURN)
    actual = attend(CpuBackend(dtype, threads=2, isa=isa), spec, batches, turn=TURN)
    tolerance = max(TOLERANCE[dtype], 5e-3)  # of a key turned otherwise a code may be off by one
    count = len(SIGHTS)
    for one, other in zip(actual.rows[-count:], expected.rows[-count:], strict=True):
        assert relative_error(one, other) < tolerance


@pytest.mark.parametrize("sight", SIGHTS, ids=str)
def test_a_row_that_evicts_is_the_same_however_work_is_cut(
    isa: str, dtype: Any, sight: Sight
) -> None:
    length = 700
    one = CpuBackend(dtype, threads=1, isa=isa)
    whole = attend(one, GROUPED, [batch([Span(0, length)], [sight])], turn=TURN).rows[0]
    ends = [0, 7, 31, 32, 105, 520, length - 2, length - 1, length]
    chunks = [batch([Span(a, b - a)], [sight]) for a, b in itertools.pairwise(ends)]
    for threads in (2, 3):
        parts = attend(CpuBackend(dtype, threads=threads, isa=isa), GROUPED, chunks, turn=TURN)
        np.testing.assert_array_equal(np.concatenate(parts.rows), whole)


def test_company_changes_nothing(isa: str, dtype: Any) -> None:
    """A long decode is cut into parts when alone, and not beside many others."""
    spans = [Span(700, 1, 0), Span(90, 1, 50), Span(0, 40, 60)]
    batches = [*before(spans), batch(spans)]
    together = attend(CpuBackend(dtype, threads=2, isa=isa), GROUPED, batches).rows[-1]
    batches[-1] = batch(spans[:1])
    alone = attend(CpuBackend(dtype, threads=2, isa=isa), GROUPED, batches).rows[-1]
    np.testing.assert_array_equal(together[:1], alone)


@pytest.mark.parametrize("length", [1, 31, 32, 33, 129, 513])
def test_what_pages_held_before_is_forgotten(isa: str, dtype: Any, length: int) -> None:
    width = (GROUPED.num_heads + 2 * GROUPED.num_kv_heads) * GROUPED.head_dim
    values = Weights().rng.standard_normal((ROWS, width)).astype(np.float32)
    values[ROWS - 1] = np.nan
    clean = batch([Span(0, length)])
    # The token that is not a number is none of the sequence's own.
    clean = replace(clean, token_ids=clean.token_ids % (ROWS - 1))
    poison = batch([Span(0, 640)])
    poison = replace(poison, token_ids=np.full_like(poison.token_ids, ROWS - 1))
    backend = CpuBackend(dtype, threads=2, isa=isa)
    expected = attend(backend, GROUPED, [clean], values).rows[0]
    actual = attend(backend, GROUPED, [poison, clean], values).rows[1]
    np.testing.assert_array_equal(actual, expected)
    assert np.isfinite(actual).all()


@pytest.mark.parametrize("format", KV_FORMATS.values(), ids=KV_FORMATS)
def test_a_value_out_of_sight_harms_nobody(isa: str, dtype: Any, format: KVFormat) -> None:
    """Its scale, which is not a number, stands right behind those of an odd number of channels."""
    spec = AttentionSpec(1, 1, 33, 0.2, window=40, far=FarKV(1, format))
    values = Weights().rng.standard_normal((ROWS, 3 * 33)).astype(np.float32)
    batches = [batch([Span(0, 64)]), batch([Span(64, 36)])]
    backend = CpuBackend(dtype, threads=1, isa=isa)
    expected = attend(backend, spec, batches, values).rows[1]
    values[batches[0].token_ids[0], 66:] = np.nan  # of position 0; those behind see 25 onwards
    np.testing.assert_array_equal(attend(backend, spec, batches, values).rows[1], expected)


@pytest.mark.parametrize("format", KV_FORMATS.values(), ids=KV_FORMATS)
@pytest.mark.parametrize("size", [0.0, 1e-33, 1e-20, 1e4])
def test_blocks_of_any_size_are_packed_to_the_bit(
    isa: str, dtype: Any, format: KVFormat, size: float
) -> None:
    """Silent channels, channels far from zero on either side, and what is not finite too."""
    spec = AttentionSpec(2, 2, 40, 1e-30, far=FarKV(1, format))
    values = Weights().rng.standard_normal((ROWS, 6 * 40)).astype(np.float32) * np.float32(size)
    values[:, 80:100] += np.float32(30 * size)
    values[:, 100:120] -= np.float32(30 * size)
    values[3, 90], values[5, 190], values[7, 200] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        expected = attend(ReferenceBackend(dtype), spec, [batch([Span(0, 96)])], values)
    actual = attend(CpuBackend(dtype, threads=2, isa=isa), spec, [batch([Span(0, 96)])], values)
    np.testing.assert_array_equal(actual.far, expected.far)
