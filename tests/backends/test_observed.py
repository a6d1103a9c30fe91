"""What a run shows besides its result: queries of chosen rows, and tokens in pages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from attention_cases import LIMITS, batch_of
from cpu_cases import ROWS, Floats, Span, Weights, ints

from vivace.backends.protocol import AttentionSpec, Backend, KVSpec, Observed, RotarySpec
from vivace.backends.reference import ReferenceBackend
from vivace.core.errors import BackendError

SPANS = [Span(40, 30, 0), Span(0, 9, 20)]
TURN = RotarySpec((1.0, 0.3, 0.05), 1.3, 256)
LAYERS = [
    AttentionSpec(4, 2, 20, 0.4, kv_group=0, kv_layer=1),
    AttentionSpec(6, 3, 20, 0.4, kv_group=1, kv_layer=0),
    AttentionSpec(4, 2, 20, 0.4, kv_group=0, kv_layer=0),
]
GROUPS = [KVSpec(2, 2, 20), KVSpec(1, 3, 20)]
WIDTHS = [(2, 80), (1, 120)]

BACKENDS = ["cpu", pytest.param("torch", marks=pytest.mark.oracle)]


def opened(name: str, dtype: Any = "float32") -> Backend:
    if name == "reference":
        return ReferenceBackend(dtype)
    if name == "torch":
        torch: Any = pytest.importorskip("vivace.backends.torch")
        on_torch: Backend = torch.TorchBackend(dtype)
        return on_torch
    pytest.importorskip("vivace.backends.cpu._native")
    from vivace.backends.cpu import CpuBackend

    return CpuBackend(dtype, threads=2)


def places(rows: int) -> tuple[Floats, ...]:
    return tuple(np.full((layers, rows, width), np.nan, np.float32) for layers, width in WIDTHS)


def observed(backend: Backend, rows: list[int]) -> Observed:
    """After a forward whose layers each have their own queries, keys and values."""
    weights = Weights()
    tables = [
        backend.embedding(weights.tensor(ROWS, (spec.num_heads + 2 * spec.num_kv_heads) * 20))
        for spec in LAYERS
    ]
    rotary = backend.rotary(TURN)

    def forward(ops: Any) -> Any:
        found = [
            ops.attention(ops.rotary_write(ops.embed(table), spec, rotary), spec)
            for table, spec in zip(tables, LAYERS, strict=True)
        ]
        return found[-1]

    caches = [backend.kv_cache(group, 256) for group in GROUPS]
    plain = batch_of(SPANS)
    asked = Observed(ints(rows), places(len(rows)))
    batch = replace(plain, block_tables=plain.block_tables * 2, observed=asked)
    backend.compile(forward, caches, LIMITS).run(batch)
    return asked


@pytest.mark.parametrize("name", BACKENDS)
def test_queries_are_the_references(name: str) -> None:
    rows = [3, 29, 30, 38]
    expected, found = (observed(opened(one), rows) for one in ("reference", name))
    for one, other in zip(found.queries, expected.queries, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_queries_are_turned_and_not_scaled() -> None:
    source = Weights().tensor(ROWS, 8 * 20).to_float32()
    found = observed(ReferenceBackend(), [0, 30]).queries[0][1].reshape(2, 4, 20)
    ids = batch_of(SPANS).token_ids
    np.testing.assert_allclose(found[1, :, 6:], source[ids[30], : 4 * 20].reshape(4, 20)[:, 6:])
    norms = np.linalg.norm(source[ids[0], : 4 * 20].reshape(4, 20)[:, :6], axis=1)
    np.testing.assert_allclose(np.linalg.norm(found[0, :, :6], axis=1), 1.3 * norms, rtol=1e-5)


@pytest.mark.parametrize("rows", [[39], [-1]])
def test_rows_that_are_none_are_refused(rows: list[int]) -> None:
    with pytest.raises(BackendError, match="observed row"):
        observed(opened("cpu"), rows)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("head_dim", [1, 7, 20, 64])
@pytest.mark.parametrize("name", [*BACKENDS, "reference"])
def test_tokens_come_out_of_pages_as_they_went_in(name: str, dtype: Any, head_dim: int) -> None:
    backend, group = opened(name, dtype), KVSpec(2, 3, head_dim)
    cache, rng = backend.kv_cache(group, 5), np.random.default_rng(2)
    before = backend.read_pages(cache, range(5))
    keys, values = (rng.integers(-9, 9, (32, 3, head_dim)).astype(np.float32) for _ in range(2))
    backend.write_tokens(cache, group, 1, [4, 2], (keys, values))
    both, second = (backend.read_tokens(cache, group, 1, pages) for pages in ([4, 2], [2]))
    for index, written in enumerate((keys, values)):
        np.testing.assert_array_equal(both[index], written)
        np.testing.assert_array_equal(second[index], written[16:])
    assert not any(found.any() for found in backend.read_tokens(cache, group, 0, [4, 2]))
    np.testing.assert_array_equal(backend.read_pages(cache, [0, 1, 3]), before[[0, 1, 3]])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_cpu_backend_wrote_what_is_read(dtype: Any) -> None:
    """Keys and values of a run, in pages of the layout that its kernels use."""
    spec, group = AttentionSpec(2, 1, 33, 0.3), KVSpec(1, 1, 33)
    found = []
    for name in ("cpu", "reference"):
        backend = opened(name, dtype)
        table = backend.embedding(Weights().tensor(ROWS, 4 * 33))
        cache, batch = backend.kv_cache(group, 256), batch_of([Span(0, 40)])

        def forward(ops: Any, table: Any = table) -> Any:
            return ops.attention(ops.rotary_write(ops.embed(table), spec, None), spec)

        backend.compile(forward, [cache], LIMITS).run(batch)
        pages = batch.block_tables[0][0].tolist()
        found.append(np.stack(backend.read_tokens(cache, group, 0, pages))[:, :40])
    np.testing.assert_array_equal(*found)
