"""What the reference backend keeps of weights and pages: plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from vivace.backends.reference import steps
from vivace.backends.reference.steps import Floats
from vivace.core.collective import Collective
from vivace.formats.qtensor import QTensor, Scheme
from vivace.formats.rounding import quantize_rows


@dataclass(frozen=True)
class FloatWeight:
    """values [out, in]; `round` gives activations as the backend's dtype holds them."""

    values: Floats
    round: Callable[[Floats], Floats]

    @property
    def shape(self) -> tuple[int, int]:
        return self.values.shape

    def multiply(self, x: Floats) -> Floats:
        y: Floats = self.round(x) @ self.values.T
        return y


@dataclass(frozen=True)
class IntegerWeight:
    """codes [out, in] less their zero points, scales [out, groups], plane beside plane."""

    scheme: Scheme
    codes: NDArray[np.float64]
    scales: Floats

    @staticmethod
    def stack(parts: Sequence[QTensor]) -> IntegerWeight:
        """Tensors of one integer scheme, along their outputs."""
        codes, scales = zip(*(part.integers() for part in parts), strict=True)
        return IntegerWeight(
            parts[0].scheme, np.concatenate(codes).astype(np.float64), np.concatenate(scales)
        )

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.codes), self.codes.shape[1] // self.scheme.planes

    def multiply(self, x: Floats) -> Floats:
        """Rows are quantized to int8 where the scheme says so, and rounded to bfloat16 else."""
        if self.scheme.activation_bits is None:
            return self._groups(x.astype(ml_dtypes.bfloat16))
        rows, row_scales = quantize_rows(x)
        return self._groups(rows) * row_scales[:, None]

    def _groups(self, x: NDArray[Any]) -> Floats:
        """Each plane takes the same rows."""
        repeated = np.tile(x, (1, self.scheme.planes))
        return steps.multiply_groups(repeated, self.codes, self.scales, self.scheme.group_size)


@dataclass(frozen=True)
class ReferenceLowRank:
    """As `protocol.LowRank`, as arrays."""

    first: int
    a: Floats
    b: Floats
    scale: np.float32


@dataclass(frozen=True)
class ReferenceLinear:
    """weight [out, in], bias [out] or None; the parts of the adapter in each slot."""

    weight: FloatWeight | IntegerWeight
    bias: Floats | None
    collective: Collective | None
    adapters: list[tuple[ReferenceLowRank, ...]]

    @property
    def shape(self) -> tuple[int, int]:
        return self.weight.shape

    @property
    def out_features(self) -> int:
        return self.shape[0]


@dataclass(frozen=True)
class ReferenceRotary:
    """cos and sin, [max_positions, dim/2] each."""

    cos: Floats
    sin: Floats


@dataclass(frozen=True)
class ReferencePages:
    """keys and values, [layers, pages, PAGE_TOKENS, kv_heads, head_dim] each."""

    keys: Floats
    values: Floats

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        return self.keys, self.values


@dataclass(frozen=True)
class PackedPages:
    """data [layers, pages, kv_heads, bytes], each head's block as `formats.kv_format` has it."""

    data: NDArray[np.uint8]

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        return (self.data,)


AnyPages: TypeAlias = ReferencePages | PackedPages
