"""How one tensor's numbers are stored: a logical shape, a scheme and its buffers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Scheme:
    """A storage scheme. The float schemes keep one buffer, `weight`, of the logical shape."""

    name: str
    bits: int


FLOAT32 = Scheme("float32", 32)
FLOAT16 = Scheme("float16", 16)
BFLOAT16 = Scheme("bfloat16", 16)

_FLOAT_SCHEMES: dict[np.dtype[Any], Scheme] = {
    np.dtype(np.float32): FLOAT32,
    np.dtype(np.float16): FLOAT16,
    np.dtype(ml_dtypes.bfloat16): BFLOAT16,
}


@dataclass(frozen=True)
class QTensor:
    """A stored tensor.

    Attributes:
        name: its name in the checkpoint; tied weights share one name.
        shape: the logical shape; linears are [out_features, in_features].
        buffers: the stored arrays, possibly memory-mapped: nothing is copied here.
    """

    name: str
    shape: tuple[int, ...]
    scheme: Scheme
    buffers: Mapping[str, Array]

    @staticmethod
    def from_array(name: str, array: Array) -> QTensor:
        """A float tensor of `array`'s own type; raises KeyError for any other type."""
        return QTensor(name, array.shape, _FLOAT_SCHEMES[array.dtype], {"weight": array})

    def to_float32(self) -> NDArray[np.float32]:
        """The values, dequantized, as float32 of the logical shape."""
        return np.asarray(self.buffers["weight"], dtype=np.float32)

    @property
    def nbytes(self) -> int:
        return sum(buffer.nbytes for buffer in self.buffers.values())
