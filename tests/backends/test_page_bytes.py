"""Pages as bytes: what is read from one cache makes another hold the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cpu_cases import Span, batch_of

from vivace.backends.protocol import Backend, BatchLimits, KVSpec
from vivace.backends.reference import ReferenceBackend
from vivace.core.errors import BackendError
from vivace.formats.kv_format import INT4_KV, INT8_KV

SPECS = {
    "plain": KVSpec(2, 3, 20),
    "int8": KVSpec(2, 3, 20, format=INT8_KV),
    "int4": KVSpec(2, 3, 20, format=INT4_KV),
}
PAGES = 5
LIMITS = BatchLimits(max_tokens=64, max_sequences=8, max_logit_rows=64)


def _cpu(dtype: Any) -> Backend:
    pytest.importorskip("vivace.backends.cpu._native")
    from vivace.backends.cpu import CpuBackend

    return CpuBackend(dtype, 1)


def _torch(dtype: Any) -> Backend:
    pytest.importorskip("torch")
    from vivace.backends.torch import TorchBackend

    return TorchBackend(dtype)


BACKENDS: dict[str, Callable[[Any], Backend]] = {
    "reference": ReferenceBackend,
    "cpu": _cpu,
    "torch": _torch,
}


@pytest.fixture(params=[(name, dtype) for name in BACKENDS for dtype in ("float32", "bfloat16")])
def backend(request: pytest.FixtureRequest) -> Backend:
    name, dtype = request.param
    return BACKENDS[name](dtype)


@pytest.fixture(params=SPECS)
def spec(request: pytest.FixtureRequest) -> KVSpec:
    return SPECS[request.param]


def random_pages(backend: Backend, spec: KVSpec, count: int) -> Any:
    """Bytes that are the same small integers in every format: no NaN, which has many forms."""
    size = backend.kv_page_bytes(spec)
    return np.random.default_rng(3).integers(0, 60, (count, size), dtype=np.uint8)


def test_pages_are_read_as_they_were_written(backend: Backend, spec: KVSpec) -> None:
    cache = backend.kv_cache(spec, PAGES)
    data = random_pages(backend, spec, 2)
    backend.write_pages(cache, [3, 0], data)
    np.testing.assert_array_equal(backend.read_pages(cache, [0, 3]), data[::-1])
    assert not backend.read_pages(cache, [1, 2, 4]).any()
    other = backend.kv_cache(spec, 2)
    backend.write_pages(other, [1], backend.read_pages(cache, [3]))
    backend.copy_pages(other, [1], [0])
    np.testing.assert_array_equal(backend.read_pages(other, [0]), data[:1])


def test_what_was_read_does_not_change_with_the_page(backend: Backend, spec: KVSpec) -> None:
    cache = backend.kv_cache(spec, PAGES)
    data = random_pages(backend, spec, 1)
    backend.write_pages(cache, [2], data)
    read = backend.read_pages(cache, [2])
    backend.write_pages(cache, [2], np.zeros_like(data))
    np.testing.assert_array_equal(read, data)


def test_pages_that_are_released_cost_the_others_nothing(backend: Backend, spec: KVSpec) -> None:
    cache = backend.kv_cache(spec, PAGES)
    data = random_pages(backend, spec, PAGES)
    backend.write_pages(cache, range(PAGES), data)
    backend.release_pages(cache, [3, 1, 2])
    np.testing.assert_array_equal(backend.read_pages(cache, [0, 4]), data[[0, 4]])
    backend.write_pages(cache, [2], data[:1])
    np.testing.assert_array_equal(backend.read_pages(cache, [2]), data[:1])


def test_wrong_pages_and_sizes_are_refused(backend: Backend, spec: KVSpec) -> None:
    cache = backend.kv_cache(spec, PAGES)
    data = random_pages(backend, spec, 1)
    for wrong in (-1, PAGES):
        with pytest.raises(BackendError, match="Pages must lie"):
            backend.read_pages(cache, [wrong])
        with pytest.raises(BackendError, match="Pages must lie"):
            backend.write_pages(cache, [wrong], data)
        with pytest.raises(BackendError, match="Pages must lie"):
            backend.release_pages(cache, [0, wrong])
    with pytest.raises(BackendError, match="cannot be filled"):
        backend.write_pages(cache, [0], data[:, 1:])
    with pytest.raises(BackendError, match="cannot be filled"):
        backend.write_pages(cache, [0, 1], data)


def test_the_same_backend_names_the_same_numerics(backend: Backend) -> None:
    assert backend.numerics == BACKENDS[backend.name](backend.dtype).numerics


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_program_goes_on_from_pages_that_were_moved(dtype: Any) -> None:
    """On the cpu backend: the next logits are the same to the bit from another cache."""
    backend = _cpu(dtype)
    from test_cpu_decoder import GROUPS, VOCAB, build_decoder

    pages = 64
    caches = [backend.kv_cache(group, pages) for group in GROUPS]
    others = [backend.kv_cache(group, pages) for group in GROUPS]
    decoder = build_decoder(backend)
    programs = [backend.compile(decoder.logits, each, LIMITS) for each in (caches, others)]
    first = batch_of([Span(0, 20, 0)], groups=2, pages=pages, tokens=VOCAB)
    programs[0].run(first)
    for cache, other, table in zip(caches, others, first.block_tables, strict=True):
        ids = table[0].tolist()
        backend.write_pages(other, ids, backend.read_pages(cache, ids))
    following = batch_of([Span(20, 4, 0)], groups=2, pages=pages, tokens=VOCAB)
    expected = backend.numpy(programs[0].run(following)).copy()
    np.testing.assert_array_equal(backend.numpy(programs[1].run(following)), expected)
