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
    """A storage scheme, and the activations that its matmuls take.

    Float schemes keep one buffer, `weight`, of the logical shape. Integer schemes round
    w = scale * (code - zero point) and keep (names as in compressed-tensors):

        int8:  `weight` int8 [out, in], `weight_scale` float32 [out, 1]; ours are -127 to 127.
        int4:  `weight_packed` uint8 [out, ceil(in / 2)], input 2i in the low nibble, code + 8;
               `weight_scale` float16 [out, ceil(in / group_size)];
               with zero points `weight_zero_point` uint8 of the scales' shape, 0 to 15, and
               codes 0 to 15 without the offset.

    A scheme of several planes has as many matrices of codes, which add up to the weights: side by
    side along the inputs, each with scales of its own (codes [out, planes * in]).

    Attributes:
        bits: of one code or value.
        group_size: inputs that share a scale; None is the whole row.
        zero_points: each group has one; symmetric otherwise.
        activation_bits: 8 quantizes each row of activations to int8 as it comes (absolute
            maximum / 127, round half to even); None keeps them in floating point.
        planes: more than one needs inputs in whole groups.
    """

    name: str
    bits: int
    group_size: int | None = None
    zero_points: bool = False
    activation_bits: int | None = None
    planes: int = 1

    @property
    def is_float(self) -> bool:
        return self.bits >= 16

    def matrix_bytes(self, outputs: int, inputs: int) -> int:
        """Bytes of a matrix [outputs, inputs], scales and zero points included."""
        if self.is_float:
            return outputs * inputs * self.bits // 8
        if self.group_size is None:
            return outputs * (inputs + np.dtype(np.float32).itemsize)
        per_group = np.dtype(np.float16).itemsize + self.zero_points
        plane = -(-inputs // 2) + per_group * -(-inputs // self.group_size)
        return outputs * plane * self.planes


FLOAT32 = Scheme("float32", 32)
FLOAT16 = Scheme("float16", 16)
BFLOAT16 = Scheme("bfloat16", 16)
INT8 = Scheme("int8", 8, activation_bits=8)

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
        if self.scheme.is_float:
            return np.asarray(self.buffers["weight"], dtype=np.float32)
        codes, scales = self.integers()
        width = codes.shape[1]
        spread = np.repeat(scales, self.scheme.group_size or width, axis=1)[:, :width]
        planes = (codes * spread).reshape(len(codes), self.scheme.planes, -1)
        values: NDArray[np.float32] = planes.sum(axis=1)
        return values

    def integers(self) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Of an integer scheme: code - zero point [out, in], and the scales [out, groups], plane
        beside plane."""
        scales = np.asarray(self.buffers["weight_scale"], dtype=np.float32)
        if self.scheme.bits == 8:
            return self.buffers["weight"], scales
        width = self.scheme.planes * self.shape[1]
        codes = _unpack(self.buffers["weight_packed"])[:, :width]
        if not self.scheme.zero_points:
            return codes - np.int8(8), scales
        zero_points = self.buffers["weight_zero_point"].astype(np.int8)
        assert self.scheme.group_size is not None
        return codes - np.repeat(zero_points, self.scheme.group_size, 1)[:, :width], scales

    @property
    def nbytes(self) -> int:
        return sum(buffer.nbytes for buffer in self.buffers.values())


def _unpack(packed: Array) -> NDArray[np.int8]:
    """Nibbles of [rows, n] bytes, the low one first: [rows, 2 n]."""
    nibbles = np.stack([packed & 15, packed >> 4], axis=-1)
    return nibbles.astype(np.int8).reshape(len(packed), -1)
