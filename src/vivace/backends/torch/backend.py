"""Weights, pages and programs of the torch backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
from vivace.backends.torch.handles import (
    Adapters,
    AnyLinear,
    AnyPages,
    TorchEmbedding,
    TorchIntegerLinear,
    TorchLinear,
    TorchLowRank,
    TorchPackedPages,
    TorchPages,
    TorchRotary,
    TorchVector,
)
from vivace.backends.torch.ops import TorchOps
from vivace.core.collective import Collective
from vivace.core.errors import BackendError
from vivace.formats.kv_format import head_layout, page_bytes
from vivace.formats.qtensor import QTensor, Scheme
from vivace.formats.rounding import stored_as


@dataclass(frozen=True)
class TorchProgram:
    """Runs the forward op by op; with trainable weights its result carries gradients."""

    backend: TorchBackend
    forward: Forward
    caches: tuple[AnyPages, ...]

    def run(self, batch: Batch) -> Tensor:
        ops = TorchOps.bind(batch, self.caches, self.backend.compute_dtype, self.backend.device)
        with torch.set_grad_enabled(self.backend.trainable):
            result: Tensor = self.forward(ops)
        return result


class TorchBackend:
    """Plain PyTorch, eager. `dtype` is what matmuls and pages are in; sums are float32.

    Attributes:
        parameters: with `trainable`, the float32 leaf of every weight by its checkpoint name;
            a name seen twice (tied weights) is one leaf. Empty otherwise.
    """

    name = "torch"

    def __init__(self, dtype: DTypeName, device: str = "cpu", trainable: bool = False) -> None:
        """Raises BackendError when PyTorch has no such device here."""
        self.dtype = dtype
        self.trainable = trainable
        self.parameters: dict[str, Tensor] = {}
        try:
            self.device = torch.empty(0, device=device).device
        except (RuntimeError, AssertionError) as error:
            raise BackendError(
                f"PyTorch cannot use the device {device!r} here; try device='cpu'."
            ) from error

    @property
    def compute_dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.dtype == "bfloat16" else torch.float32

    @property
    def numerics(self) -> str:
        return f"torch {torch.__version__} {self.device}"

    def vector(self, tensor: QTensor, offset: float = 0.0) -> TorchVector:
        return TorchVector(self._weight(tensor, torch.float32), offset)

    def embedding(self, tensor: QTensor, scheme: Scheme | None = None) -> TorchEmbedding:
        (stored,) = stored_as([tensor], scheme)
        if stored.scheme.is_float:
            return TorchEmbedding(self._weight(stored, self.compute_dtype), self.compute_dtype)
        self._refuse_training()
        return TorchEmbedding(self._upload(stored), torch.float32)

    def linear(
        self,
        parts: Sequence[QTensor],
        bias: Sequence[QTensor] = (),
        collective: Collective | None = None,
        form: LinearForm = PLAIN,
    ) -> AnyLinear:
        parts = stored_as(parts, scheme_of_parts(parts, form.scheme))
        adapters: Adapters = [()] * (0 if form.adapters is None else form.adapters.slots)
        if not all(part.scheme.is_float for part in parts):
            return self._integer_linear(parts, bias, collective, adapters)
        weights = tuple(self._weight(part, self.compute_dtype) for part in parts)
        biases = tuple(self._weight(part, torch.float32) for part in bias)
        linear = TorchLinear(weights, biases, collective, adapters)
        if self.trainable or len(weights) == 1:
            return linear
        return TorchLinear((linear.weight,), biases, collective, adapters)

    def set_adapter(self, linear: AnyLinear, slot: int, parts: Sequence[LowRank]) -> None:
        check_adapter(len(linear.adapters), slot, linear.shape, parts)
        linear.adapters[slot - 1] = tuple(
            TorchLowRank(part.first, self._upload(part.a), self._upload(part.b), part.scale)
            for part in parts
        )

    def _integer_linear(
        self,
        parts: Sequence[QTensor],
        bias: Sequence[QTensor],
        collective: Collective | None,
        adapters: Adapters,
    ) -> TorchIntegerLinear:
        self._refuse_training()
        codes, scales = zip(*(part.integers() for part in parts), strict=True)
        return TorchIntegerLinear(
            parts[0].scheme,
            torch.tensor(np.concatenate(codes), dtype=torch.float64, device=self.device),
            torch.tensor(np.concatenate(scales), device=self.device),
            torch.cat([self._upload(part) for part in bias]) if bias else None,
            collective,
            adapters,
        )

    def _refuse_training(self) -> None:
        if self.trainable:
            raise BackendError("Integer weights take no gradients: leave them out of training.")

    def rotary(self, spec: RotarySpec) -> TorchRotary:
        positions = torch.arange(spec.max_positions, dtype=torch.float32)
        angles = positions[:, None] * torch.tensor(spec.inv_freq, dtype=torch.float32)
        cos, sin = angles.cos() * spec.scale, angles.sin() * spec.scale
        return TorchRotary(cos.to(self.device), sin.to(self.device))

    def kv_cache(self, spec: KVSpec, num_pages: int) -> AnyPages:
        if spec.format is not None:
            layout = head_layout(spec.format, spec.head_dim)
            packed = (spec.num_layers, num_pages, spec.num_kv_heads, layout.num_bytes)
            return TorchPackedPages(torch.zeros(packed, dtype=torch.uint8, device=self.device))
        shape = (spec.num_layers, num_pages, PAGE_TOKENS, spec.num_kv_heads, spec.head_dim)
        keys, values = (
            torch.zeros(shape, dtype=self.compute_dtype, device=self.device) for _ in range(2)
        )
        return TorchPages(keys, values)

    def kv_page_bytes(self, spec: KVSpec) -> int:
        if spec.format is not None:
            return spec.num_layers * page_bytes(spec.format, spec.num_kv_heads, spec.head_dim)
        values = 2 * spec.num_layers * PAGE_TOKENS * spec.num_kv_heads * spec.head_dim
        return values * self.compute_dtype.itemsize

    def copy_pages(self, cache: AnyPages, sources: Sequence[int], targets: Sequence[int]) -> None:
        for stored in cache.arrays:
            stored[:, list(targets)] = stored[:, list(sources)]

    def release_pages(self, cache: AnyPages, pages: Sequence[int]) -> None:
        check_pages(pages, cache.arrays[0].shape[1])  # an array is given back whole or not at all

    def read_pages(self, cache: AnyPages, pages: Sequence[int]) -> PageBytes:
        check_pages(pages, cache.arrays[0].shape[1])
        found = [stored[:, list(pages)].transpose(0, 1) for stored in cache.arrays]
        rows = [part.reshape(len(pages), -1).view(torch.uint8) for part in found]
        data: PageBytes = torch.cat(rows, dim=1).cpu().numpy()
        return data

    def write_pages(self, cache: AnyPages, pages: Sequence[int], data: PageBytes) -> None:
        check_pages(pages, cache.arrays[0].shape[1])
        check_page_bytes(data, len(pages), sum(stored[:, 0].nbytes for stored in cache.arrays))
        parts = np.split(data, len(cache.arrays), axis=1)
        for stored, part in zip(cache.arrays, parts, strict=True):
            layers, _, *rest = stored.shape
            values = torch.tensor(part).view(stored.dtype).to(self.device)
            stored[:, list(pages)] = values.reshape(len(pages), layers, *rest).transpose(0, 1)

    def read_tokens(
        self, cache: AnyPages, spec: KVSpec, layer: int, pages: Sequence[int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        shape = -1, spec.num_kv_heads, spec.head_dim
        found = (stored[layer, list(pages)].float().cpu().numpy() for stored in cache.arrays)
        keys, values = (part.reshape(shape) for part in found)
        return keys, values

    def write_tokens(
        self,
        cache: AnyPages,
        spec: KVSpec,
        layer: int,
        pages: Sequence[int],
        tokens: tuple[NDArray[np.float32], NDArray[np.float32]],
    ) -> None:
        for stored, values in zip(cache.arrays, tokens, strict=True):
            shaped = values.reshape(len(pages), *stored.shape[2:])
            stored[layer, list(pages)] = torch.tensor(shaped).to(stored.device, stored.dtype)

    def compile(
        self, forward: Forward, caches: Sequence[AnyPages], limits: BatchLimits
    ) -> TorchProgram:
        return TorchProgram(self, forward, tuple(caches))

    def numpy(self, tensor: Tensor) -> NDArray[np.float32]:
        array: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
        return array

    def _weight(self, tensor: QTensor, dtype: torch.dtype) -> Tensor:
        if not self.trainable:
            return self._upload(tensor).to(dtype)
        if tensor.name not in self.parameters:
            self.parameters[tensor.name] = self._upload(tensor).requires_grad_()
        return self.parameters[tensor.name]

    def _upload(self, tensor: QTensor) -> Tensor:
        """A float32 copy that this backend owns, on its device."""
        return torch.tensor(tensor.to_float32(), device=self.device)
