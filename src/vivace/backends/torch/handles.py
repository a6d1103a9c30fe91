"""What the torch backend keeps of weights and pages.

Parameters stay leaves under their own names: joining parts, adding an offset and casting happen
where a weight is used, inside the graph, so that gradients reach the checkpoint's own tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from vivace.backends.torch import steps
from vivace.core.collective import Collective
from vivace.formats.qtensor import Scheme


@dataclass(frozen=True)
class TorchVector:
    """parameter + offset, float32."""

    parameter: Tensor
    offset: float

    @property
    def value(self) -> Tensor:
        return self.parameter + self.offset if self.offset else self.parameter

    def __len__(self) -> int:
        return len(self.parameter)


@dataclass(frozen=True)
class TorchEmbedding:
    """A table [rows, width], its rows rounded to `dtype` and handed out as float32."""

    parameter: Tensor
    dtype: torch.dtype

    def rows(self, indices: Tensor) -> Tensor:
        return F.embedding(indices, self.parameter).to(self.dtype).float()


@dataclass(frozen=True)
class TorchLowRank:
    """As `protocol.LowRank`, in float32."""

    first: int
    a: Tensor
    b: Tensor
    scale: float

    def multiply(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """scale * b (a x), as float32."""
        inner = F.linear(x.to(dtype), self.a.to(dtype))
        return self.scale * F.linear(inner, self.b.to(dtype)).float()


Adapters: TypeAlias = list[tuple[TorchLowRank, ...]]


@dataclass(frozen=True)
class TorchLinear:
    """Parts [out_i, in] and biases [out_i], stacked along their outputs; the parts of the adapter
    in each slot."""

    parts: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    collective: Collective | None
    adapters: Adapters

    @property
    def weight(self) -> Tensor:
        return self.parts[0] if len(self.parts) == 1 else torch.cat(self.parts)

    @property
    def bias(self) -> Tensor | None:
        return torch.cat(self.biases) if self.biases else None

    @property
    def shape(self) -> tuple[int, int]:
        return self.out_features, self.parts[0].shape[1]

    @property
    def out_features(self) -> int:
        return sum(len(part) for part in self.parts)

    def multiply(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return F.linear(x.to(dtype), self.weight.to(dtype))


@dataclass(frozen=True)
class TorchIntegerLinear:
    """codes [out, in] less their zero points, as float64 whose sums are exact; scales
    [out, groups]; plane beside plane; bias [out] or None. Gradients do not pass."""

    scheme: Scheme
    codes: Tensor
    scales: Tensor
    bias: Tensor | None
    collective: Collective | None
    adapters: Adapters

    @property
    def shape(self) -> tuple[int, int]:
        return self.out_features, self.codes.shape[1] // self.scheme.planes

    @property
    def out_features(self) -> int:
        return len(self.codes)

    def multiply(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows are quantized to int8 where the scheme says so, and rounded to bfloat16 else."""
        if self.scheme.activation_bits is None:
            return self._groups(x.bfloat16())
        rows, row_scales = steps.quantize_rows(x.float())
        return self._groups(rows) * row_scales

    def _groups(self, x: Tensor) -> Tensor:
        repeated = x.repeat(1, self.scheme.planes)
        return steps.multiply_groups(repeated, self.codes, self.scales, self.scheme.group_size)


AnyLinear: TypeAlias = TorchLinear | TorchIntegerLinear


@dataclass(frozen=True)
class TorchRotary:
    """cos and sin, [max_positions, dim/2] each, float32."""

    cos: Tensor
    sin: Tensor


@dataclass(frozen=True)
class TorchPages:
    """keys and values, [layers, pages, PAGE_TOKENS, kv_heads, head_dim] each."""

    keys: Tensor
    values: Tensor

    @property
    def arrays(self) -> tuple[Tensor, ...]:
        return self.keys, self.values


@dataclass(frozen=True)
class TorchPackedPages:
    """data [layers, pages, kv_heads, bytes], each head's block as `formats.kv_format` has it."""

    data: Tensor

    @property
    def arrays(self) -> tuple[Tensor, ...]:
        return (self.data,)


AnyPages: TypeAlias = TorchPages | TorchPackedPages
