"""Weights, pages and programs of the reference backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from vivace.backends.low_rank import LowRank, check_adapter
from vivace.backends.page_bytes import PageBytes, check_page_bytes, check_pages
from vivace.backends.protocol import (
    PAGE_TOKENS,
    PLAIN,
    Batch,
    BatchLimits,
    DTypeName,
    Forward,
    KVSpec,
    LinearForm,
    RotarySpec,
    scheme_of_parts,
)
from vivace.backends.reference.handles import (
    AnyPages,
    FloatWeight,
    IntegerWeight,
    PackedPages,
    ReferenceLinear,
    ReferenceLowRank,
    ReferencePages,
    ReferenceRotary,
)
from vivace.backends.reference.ops import ReferenceOps
from vivace.backends.reference.steps import Floats
from vivace.core.collective import Collective
from vivace.formats.kv_format import head_layout, page_bytes
from vivace.formats.qtensor import QTensor, Scheme
from vivace.formats.rounding import stored_as


@dataclass(frozen=True)
class ReferenceProgram:
    """Runs the forward op by op."""

    backend: ReferenceBackend
    forward: Forward
    caches: tuple[AnyPages, ...]

    def run(self, batch: Batch) -> Floats:
        result: Floats = self.forward(ReferenceOps(self.backend.round, batch, self.caches))
        return result


class ReferenceBackend:
    """numpy in float32. With bfloat16, what a machine would keep in it is rounded to it: weights,
    matmul inputs and KV pages; sums stay float32."""

    name = "reference"

    def __init__(self, dtype: DTypeName = "float32") -> None:
        self.dtype = dtype

    @property
    def numerics(self) -> str:
        return f"numpy {np.__version__}"

    def round(self, x: Floats) -> Floats:
        """x as this backend's dtype can hold it."""
        if self.dtype == "float32":
            return x
        rounded: Floats = x.astype(ml_dtypes.bfloat16).astype(np.float32)
        return rounded

    def vector(self, tensor: QTensor, offset: float = 0.0) -> Floats:
        vector: Floats = tensor.to_float32() + np.float32(offset)
        return vector

    def embedding(self, tensor: QTensor, scheme: Scheme | None = None) -> Floats:
        (stored,) = stored_as([tensor], scheme)
        values = stored.to_float32()
        return self.round(values) if stored.scheme.is_float else values

    def linear(
        self,
        parts: Sequence[QTensor],
        bias: Sequence[QTensor] = (),
        collective: Collective | None = None,
        form: LinearForm = PLAIN,
    ) -> ReferenceLinear:
        biases = np.concatenate([part.to_float32() for part in bias]) if bias else None
        scheme = scheme_of_parts(parts, form.scheme)
        weight = self._weight(stored_as(parts, scheme))
        slots = 0 if form.adapters is None else form.adapters.slots
        return ReferenceLinear(weight, biases, collective, [()] * slots)

    def set_adapter(self, linear: ReferenceLinear, slot: int, parts: Sequence[LowRank]) -> None:
        check_adapter(len(linear.adapters), slot, linear.shape, parts)
        linear.adapters[slot - 1] = tuple(
            ReferenceLowRank(
                part.first,
                self.round(part.a.to_float32()),
                self.round(part.b.to_float32()),
                np.float32(part.scale),
            )
            for part in parts
        )

    def rotary(self, spec: RotarySpec) -> ReferenceRotary:
        positions = np.arange(spec.max_positions, dtype=np.float32)
        angles = positions[:, None] * np.asarray(spec.inv_freq, dtype=np.float32)
        scale = np.float32(spec.scale)
        return ReferenceRotary(np.cos(angles) * scale, np.sin(angles) * scale)

    def kv_cache(self, spec: KVSpec, num_pages: int) -> AnyPages:
        if spec.format is not None:
            layout = head_layout(spec.format, spec.head_dim)
            lead = (spec.num_layers, num_pages, spec.num_kv_heads)
            return PackedPages(np.zeros((*lead, layout.num_bytes), np.uint8))
        shape = (spec.num_layers, num_pages, PAGE_TOKENS, spec.num_kv_heads, spec.head_dim)
        return ReferencePages(np.zeros(shape, np.float32), np.zeros(shape, np.float32))

    def kv_page_bytes(self, spec: KVSpec) -> int:
        if spec.format is not None:
            return spec.num_layers * page_bytes(spec.format, spec.num_kv_heads, spec.head_dim)
        return 2 * 4 * spec.num_layers * PAGE_TOKENS * spec.num_kv_heads * spec.head_dim

    def copy_pages(self, cache: AnyPages, sources: Sequence[int], targets: Sequence[int]) -> None:
        for stored in cache.arrays:
            stored[:, list(targets)] = stored[:, list(sources)]

    def release_pages(self, cache: AnyPages, pages: Sequence[int]) -> None:
        check_pages(pages, cache.arrays[0].shape[1])  # an array is given back whole or not at all

    def read_pages(self, cache: AnyPages, pages: Sequence[int]) -> PageBytes:
        check_pages(pages, cache.arrays[0].shape[1])
        found = [stored[:, list(pages)].swapaxes(0, 1) for stored in cache.arrays]
        rows = [np.ascontiguousarray(part).reshape(len(pages), -1) for part in found]
        return np.concatenate([row.view(np.uint8) for row in rows], axis=1)

    def write_pages(self, cache: AnyPages, pages: Sequence[int], data: PageBytes) -> None:
        check_pages(pages, cache.arrays[0].shape[1])
        check_page_bytes(data, len(pages), sum(stored[:, 0].nbytes for stored in cache.arrays))
        parts = np.split(data, len(cache.arrays), axis=1)
        for stored, part in zip(cache.arrays, parts, strict=True):
            layers, _, *rest = stored.shape
            values = np.ascontiguousarray(part).view(stored.dtype)
            stored[:, list(pages)] = values.reshape(len(pages), layers, *rest).swapaxes(0, 1)

    def read_tokens(
        self, cache: AnyPages, spec: KVSpec, layer: int, pages: Sequence[int]
    ) -> tuple[Floats, Floats]:
        shape = -1, spec.num_kv_heads, spec.head_dim
        keys, values = (stored[layer, list(pages)].reshape(shape) for stored in cache.arrays)
        return keys, values

    def write_tokens(
        self,
        cache: AnyPages,
        spec: KVSpec,
        layer: int,
        pages: Sequence[int],
        tokens: tuple[Floats, Floats],
    ) -> None:
        for stored, values in zip(cache.arrays, tokens, strict=True):
            stored[layer, list(pages)] = values.reshape(len(pages), *stored.shape[2:])

    def compile(
        self, forward: Forward, caches: Sequence[AnyPages], limits: BatchLimits
    ) -> ReferenceProgram:
        return ReferenceProgram(self, forward, tuple(caches))

    def _weight(self, parts: Sequence[QTensor]) -> FloatWeight | IntegerWeight:
        if all(part.scheme.is_float for part in parts):
            values = np.concatenate([part.to_float32() for part in parts])
            return FloatWeight(self.round(values), self.round)
        return IntegerWeight.stack(parts)

    def numpy(self, tensor: Floats) -> NDArray[np.float32]:
        return tensor
