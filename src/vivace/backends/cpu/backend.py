"""Weights and pages of the cpu backend, in native memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.backends.cpu import _native
from vivace.backends.cpu.kv_memory import spread_pages
from vivace.backends.cpu.packed import Packed, PackedStore
from vivace.backends.cpu.page_tokens import PageTokens
from vivace.backends.cpu.program import CpuProgram, Result, compile_program
from vivace.backends.cpu.weights import part_of, table_type, weight_format
from vivace.backends.low_rank import LowRank
from vivace.backends.page_bytes import PageBytes, check_page_bytes, check_pages
from vivace.backends.protocol import (
    PLAIN,
    BatchLimits,
    DTypeName,
    Forward,
    KVSpec,
    LinearForm,
    RotarySpec,
    scheme_of_parts,
)
from vivace.core.collective import Collective
from vivace.core.errors import BackendError, CapacityError
from vivace.formats.qtensor import QTensor, Scheme

READ_BYTES = 2**30  # many times any cache


class NativeBackend:
    """A backend on native threads; see `CpuBackend`."""

    name = "cpu"

    def __init__(
        self, dtype: DTypeName, threads: int, isa: str, store: PackedStore | None = None
    ) -> None:
        self.dtype = dtype
        self.threads = threads
        self._store = store
        self._dtype = _native.DType[dtype]
        try:
            self._runtime = _native.Runtime(threads, isa)
        except ValueError as error:
            raise BackendError(str(error)) from None

    @property
    def isa(self) -> str:
        """The instruction set in use: portable, avx2, avx512, avx512bf16, amx or neon."""
        return self._runtime.isa

    @property
    def numerics(self) -> str:
        code = hashlib.sha256(Path(str(_native.__file__)).read_bytes()).hexdigest()
        return f"cpu {self.isa} {code}"

    def read_bandwidth(self) -> float:
        """Bytes per second at which the threads stream through memory: the limit of decode."""
        return self._runtime.read_bandwidth(READ_BYTES)

    def vector(self, tensor: QTensor, offset: float = 0.0) -> _native.Vector:
        return _native.Vector(_flat(tensor.to_float32() + np.float32(offset)))

    def embedding(self, tensor: QTensor, scheme: Scheme | None = None) -> _native.Embedding:
        type = table_type(tensor, scheme, self.dtype)
        rows, width = tensor.shape
        table = _native.Embedding(type, (rows, width))
        key = "embedding", type.name, (rows, width), _described([tensor])
        self._fill(table, key, lambda: table.pack(self._runtime, part_of(tensor)))
        return table

    def linear(
        self,
        parts: Sequence[QTensor],
        bias: Sequence[QTensor] = (),
        collective: Collective | None = None,
        form: LinearForm = PLAIN,
    ) -> _native.Linear:
        if collective is not None and collective.size > 1:
            raise BackendError("The cpu backend runs whole models: leave tensor parallelism off.")
        scheme = scheme_of_parts(parts, form.scheme)
        format = weight_format(scheme, self.dtype)
        shape = sum(part.shape[0] for part in parts), parts[0].shape[1]
        biases = _flat(np.concatenate([part.to_float32() for part in bias])) if bias else None
        with _as_backend_errors():
            planes = scheme.planes if scheme else 1
            linear = _native.Linear(self._runtime, format, shape, planes, form.gated, biases)
            if form.adapters is not None:
                room = form.adapters
                linear.make_room(room.slots, len(parts) * room.max_rank)
        key = "linear", scheme or self.dtype, form.gated, shape, _described(parts)
        self._fill(
            linear, key, lambda: linear.pack(self._runtime, [part_of(part) for part in parts])
        )
        return linear

    def set_adapter(self, linear: _native.Linear, slot: int, parts: Sequence[LowRank]) -> None:
        with _as_backend_errors():
            linear.set_adapter(slot, self._low_rank(parts) if parts else None)

    def _low_rank(self, parts: Sequence[LowRank]) -> _native.LowRank:
        made = [(part_of(part.a), part_of(part.b), part.first, part.scale) for part in parts]
        return _native.LowRank(self._runtime, self._dtype, made)

    def rotary(self, spec: RotarySpec) -> _native.RotaryTable:
        positions = np.arange(spec.max_positions, dtype=np.float32)
        angles = positions[:, None] * np.asarray(spec.inv_freq, dtype=np.float32)
        scale = np.float32(spec.scale)
        cos, sin = np.cos(angles) * scale, np.sin(angles) * scale
        return _native.RotaryTable(len(spec.inv_freq), _flat(cos), _flat(sin))

    def kv_cache(self, spec: KVSpec, num_pages: int) -> _native.KVCache:
        layout = self._layout(spec)
        held = spread_pages(num_pages, layout.page_bytes, spec.num_layers)
        try:
            return _native.KVCache(layout, spec.num_layers, held)
        except MemoryError:
            size = num_pages * self.kv_page_bytes(spec)
            raise CapacityError(
                f"There is no room for {num_pages} KV pages of {spec.page_tokens} tokens "
                f"({size / 2**30:.1f} GiB): give less KV memory."
            ) from None

    def kv_page_bytes(self, spec: KVSpec) -> int:
        return spec.num_layers * self._layout(spec).page_bytes

    def copy_pages(
        self, cache: _native.KVCache, sources: Sequence[int], targets: Sequence[int]
    ) -> None:
        try:
            cache.copy_pages(list(sources), list(targets))
        except IndexError as error:
            raise BackendError(str(error)) from None

    def release_pages(self, cache: _native.KVCache, pages: Sequence[int]) -> None:
        check_pages(pages, cache.pages.shape[1])
        cache.release_pages(list(pages))

    def read_pages(self, cache: _native.KVCache, pages: Sequence[int]) -> PageBytes:
        memory = cache.pages
        check_pages(pages, memory.shape[1])
        return np.stack([memory[:, page].reshape(-1) for page in pages])

    def write_pages(self, cache: _native.KVCache, pages: Sequence[int], data: PageBytes) -> None:
        memory = cache.pages
        layers, num_pages, size = memory.shape
        check_pages(pages, num_pages)
        check_page_bytes(data, len(pages), layers * size)
        for page, content in zip(pages, data, strict=True):
            memory[:, page] = content.reshape(layers, size)

    def read_tokens(
        self, cache: _native.KVCache, spec: KVSpec, layer: int, pages: Sequence[int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return PageTokens(cache.pages[layer, list(pages)], spec, self.dtype).read()

    def write_tokens(
        self,
        cache: _native.KVCache,
        spec: KVSpec,
        layer: int,
        pages: Sequence[int],
        tokens: tuple[NDArray[np.float32], NDArray[np.float32]],
    ) -> None:
        content = cache.pages[layer, list(pages)]
        PageTokens(content, spec, self.dtype).write(*tokens)
        cache.pages[layer, list(pages)] = content

    def compile(
        self, forward: Forward, caches: Sequence[_native.KVCache], limits: BatchLimits
    ) -> CpuProgram:
        return compile_program(self._runtime, self._dtype, forward, list(caches), limits)

    def numpy(self, tensor: Result) -> NDArray[np.float32]:
        return tensor.numpy()

    def _layout(self, spec: KVSpec) -> _native.KVLayout:
        bits = 0 if spec.format is None else spec.format.bits
        return _native.KVLayout(self._dtype, spec.num_kv_heads, spec.head_dim, bits)

    def _fill(self, weight: Packed, key: object, pack: Callable[[], None]) -> None:
        if self._store is None:
            pack()
        else:
            self._store.fill(weight, self._runtime, key, pack)


@contextmanager
def _as_backend_errors() -> Iterator[None]:
    """What native code refuses, it says in a sentence."""
    try:
        yield
    except ValueError as error:
        raise BackendError(str(error)) from None


def _described(parts: Sequence[QTensor]) -> list[tuple[str, tuple[int, ...], Scheme]]:
    return [(part.name, part.shape, part.scheme) for part in parts]


def _flat(values: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
