"""Attention over near and packed pages: each position seen in the one form that positions say."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from vivace.backends.protocol import (
    PAGE_TOKENS,
    AttentionSpec,
    Backend,
    Batch,
    BatchLimits,
    FarKV,
    KVSpec,
    Ops,
    Tensor,
)
from vivace.backends.reference import ReferenceBackend, steps
from vivace.core.sight import ALL, Sight
from vivace.formats.kv_format import KV_BLOCK_TOKENS, KV_FORMATS, KVFormat
from vivace.formats.kv_rounding import pack_blocks, unpack_blocks
from vivace.formats.qtensor import QTensor

pytestmark = pytest.mark.tiny

LENGTH = 150
HEADS, KV_HEADS, HEAD_DIM = 4, 2, 12
BLOCKS = -(-LENGTH // KV_BLOCK_TOKENS)
CHUNKS = [(1,) * LENGTH, (150,), (31, 1, 1, 32, 85), (7,) * 21 + (3,), (64, 33, 53)]

EVERY = pytest.mark.parametrize("format", KV_FORMATS.values(), ids=KV_FORMATS)
SEEN = pytest.mark.parametrize(
    ("window", "sight"),
    [(None, ALL), (90, ALL), (None, Sight(50, 4)), (None, Sight(20, 40)), (90, Sight(30, 1))],
    ids=str,
)
Floats = np.ndarray[Any, np.dtype[np.float32]]


class Attending:
    """One compressed layer whose rows' q, k and v are rows of a seeded table, by position."""

    def __init__(
        self,
        backend: Backend,
        format: KVFormat,
        window: int | None = None,
        sight: Sight = ALL,
    ) -> None:
        self.sight = sight
        rng = np.random.default_rng(3)
        width = (HEADS + 2 * KV_HEADS) * HEAD_DIM
        self.table = rng.normal(size=(2 * LENGTH, width)).astype(np.float32)
        far = FarKV(1, format)
        self.spec = AttentionSpec(HEADS, KV_HEADS, HEAD_DIM, 0.4, window=window, far=far)
        self.backend = backend
        near_group = KVSpec(1, KV_HEADS, HEAD_DIM, 1)
        far_group = KVSpec(1, KV_HEADS, HEAD_DIM, window, format)
        self.near = backend.kv_cache(near_group, 2 * BLOCKS)
        self.far = backend.kv_cache(far_group, BLOCKS)
        embedding = backend.embedding(QTensor.from_array("qkv", self.table))

        def forward(ops: Ops) -> Tensor:
            rows = ops.embed(embedding)
            return ops.attention(ops.rotary_write(rows, self.spec, None), self.spec)

        limits = BatchLimits(LENGTH, 2, 2)
        self.paged = backend.compile(forward, (self.near, self.far), limits)
        self.pageless = backend.compile(forward, (), limits)

    def run(self, start: int, stop: int, shift: int = 0) -> Floats:
        """Rows [start, stop) over pages, in descending order."""
        near = np.arange(2 * BLOCKS, dtype=np.int32)[None, ::-1].copy()
        far = np.arange(BLOCKS, dtype=np.int32)[None, ::-1].copy()
        batch = self._batch(start, stop, (near, far), shift)
        return self.backend.numpy(self.paged.run(batch)).copy()

    def run_chunks(self, chunks: tuple[int, ...]) -> Floats:
        starts = np.cumsum((0, *chunks)).tolist()
        return np.concatenate([self.run(*ends) for ends in pairwise(starts)])

    def run_pageless(self) -> Floats:
        return self.backend.numpy(self.pageless.run(self._batch(0, LENGTH, (), 0))).copy()

    def _batch(self, start: int, stop: int, tables: tuple[Any, ...], shift: int) -> Batch:
        rows = np.arange(start, stop, dtype=np.int32)
        ends = np.asarray([0, stop - start], np.int32)
        length = np.asarray([stop], np.int32)
        sights = np.asarray([(self.sight.window or 0, self.sight.sinks, 0)], np.int32)
        return Batch(rows + np.int32(shift), rows, ends, length, tables, rows[:0], sights=sights)


def by_hand(attending: Attending) -> Floats:
    """Row by row, with every position in the form that this row sees."""
    ends = [HEADS * HEAD_DIM, (HEADS + KV_HEADS) * HEAD_DIM]
    q, k, v = np.split(attending.table[:LENGTH], ends, axis=1)
    q, k, v = (x.reshape(LENGTH, -1, HEAD_DIM) for x in (q * np.float32(0.4), k, v))
    assert attending.spec.far is not None
    format = attending.spec.far.format
    full = LENGTH // KV_BLOCK_TOKENS * KV_BLOCK_TOKENS
    shape = -1, KV_BLOCK_TOKENS, KV_HEADS, HEAD_DIM
    packed = pack_blocks(k[:full].reshape(shape), v[:full].reshape(shape), format)
    far_k, far_v = (x.reshape(full, KV_HEADS, HEAD_DIM) for x in unpack_blocks(packed, format, 12))
    sight, out = attending.sight.within(attending.spec.window), []
    for row in range(LENGTH):
        near = row // KV_BLOCK_TOKENS * KV_BLOCK_TOKENS
        seen_k = np.concatenate([far_k[:near], k[near : row + 1]])
        seen_v = np.concatenate([far_v[:near], v[near : row + 1]])
        columns = np.arange(row + 1)
        visible = (columns >= sight.first_recent(row)) | (columns < sight.sinks)
        seen = steps.Segment(q[row : row + 1], seen_k, seen_v, visible[None])
        out.append(steps.attend([seen], None, None))
    return np.concatenate(out).reshape(LENGTH, -1)


@EVERY
@SEEN
def test_each_position_is_seen_in_the_form_that_positions_say(
    format: KVFormat, window: int | None, sight: Sight
) -> None:
    attending = Attending(ReferenceBackend(), format, window, sight)
    expected = by_hand(attending)
    np.testing.assert_allclose(attending.run(0, LENGTH), expected, atol=2e-6)
    np.testing.assert_allclose(attending.run_pageless(), expected, atol=2e-6)


@EVERY
@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_chunks_leave_the_same_packed_pages_and_see_the_same(
    format: KVFormat, chunks: tuple[int, ...]
) -> None:
    whole, cut = (Attending(ReferenceBackend(), format) for _ in range(2))
    expected = whole.run(0, LENGTH)
    np.testing.assert_allclose(cut.run_chunks(chunks), expected, atol=2e-6)
    np.testing.assert_array_equal(cut.far.data, whole.far.data)
    assert whole.far.data[:, 1:].any(axis=-1).all()
    assert not whole.far.data[:, 0].any()  # the last block is not full


@EVERY
def test_blocks_before_the_rows_are_read_packed_alone(format: KVFormat) -> None:
    """Their pages in full precision may be given away."""
    kept, given = (Attending(ReferenceBackend(), format) for _ in range(2))
    for start in range(0, LENGTH - 1, 5):
        expected = kept.run(start, start + 5)
        passed = [2 * BLOCKS - 1 - page for page in range(2 * (start // KV_BLOCK_TOKENS))]
        for stored in given.near.arrays:
            stored[:, passed] = 1e3
        np.testing.assert_array_equal(given.run(start, start + 5), expected)


@EVERY
def test_a_block_written_again_is_packed_again(format: KVFormat) -> None:
    """As after a rejected draft, or where a page changes hands."""
    fresh, used = (Attending(ReferenceBackend(), format) for _ in range(2))
    used.run(0, LENGTH, shift=LENGTH)
    np.testing.assert_array_equal(used.run(0, 100), fresh.run(0, 100))
    np.testing.assert_array_equal(used.far.data[:, -3:], fresh.far.data[:, -3:])


@EVERY
def test_packed_pages_take_the_bytes_that_are_planned(format: KVFormat) -> None:
    backend = ReferenceBackend()
    spec = KVSpec(3, 2, 64, format=format)
    cache = backend.kv_cache(spec, 5)
    assert spec.page_tokens == KV_BLOCK_TOKENS == 2 * PAGE_TOKENS
    assert sum(array.nbytes for array in cache.arrays) == 5 * backend.kv_page_bytes(spec)
    cache.data[:, 1] = 7
    backend.copy_pages(cache, [1], [4])
    assert (cache.data[:, 4] == 7).all()
    assert not cache.data[:, 2].any()


@EVERY
@SEEN
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_torch_sees_the_same(
    format: KVFormat, window: int | None, sight: Sight, dtype: Any
) -> None:
    torch = pytest.importorskip("vivace.backends.torch")
    expected = Attending(ReferenceBackend(dtype), format, window, sight)
    actual = Attending(torch.TorchBackend(dtype), format, window, sight)
    tolerance = 2e-5 if dtype == "float32" else 2e-2
    out = expected.run_chunks((40, 110))
    np.testing.assert_allclose(actual.run_chunks((40, 110)), out, atol=tolerance)
    np.testing.assert_array_equal(actual.far.data.numpy(), expected.far.data)
    np.testing.assert_allclose(actual.run_pageless(), out, atol=tolerance)
