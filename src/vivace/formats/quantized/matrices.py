"""Quantized matrices as tensors: with the file's own codes and scales where a backend multiplies by
such, and else as the floats that they stand for. Nothing is rounded again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from vivace.formats.made import Made
from vivace.formats.qtensor import FLOAT32, INT8, Array, QTensor, Scheme
from vivace.formats.quantized.layouts import Layout, Parts, Rounding, Steps
from vivace.formats.quantized.words import Codes
from vivace.formats.safetensors import Entry
from vivace.formats.schemes import GROUP_SIZES, int4

TYPES = (*(f"int{bits}" for bits in range(1, 9)), "float8")  # by name, as `entry` has them

_EXACT = 2.0**-17, 2.0**15  # between these, float16 holds whatever bfloat16 does


@dataclass(frozen=True, eq=False)
class PackedMatrix:
    """A matrix in codes below 8 bits, or of 8 in groups: a tensor file of one tensor.

    Attributes:
        parts: its tensors, mapped.
        nbytes: of them all.
    """

    path: Path
    layout: Layout
    rounding: Rounding
    parts: Parts
    nbytes: int
    release: Callable[[], None]

    def entry(self, name: str) -> Entry:
        return Entry(f"int{self.rounding.bits}", self._shape, 0, self.nbytes)

    def tensor(self, name: str) -> QTensor:
        if self._scheme is None:
            return QTensor(name, self._shape, FLOAT32, Made({"weight": self._values}))
        makers = {"weight_packed": self._nibbles, "weight_scale": self._half_scales}
        if self._scheme.zero_points:
            makers["weight_zero_point"] = lambda: self._steps.zeros.astype(np.uint8)
        return QTensor(name, self._shape, self._scheme, Made(makers))

    @cached_property
    def _shape(self) -> tuple[int, int]:
        return self.layout.shape(self.parts, self.rounding)

    @cached_property
    def _scheme(self) -> Scheme | None:
        """What backends multiply by as it is; None where they cannot."""
        rounding, steps = self.rounding, self._steps
        whole_bytes = self._shape[1] % 2 == 0
        if rounding.bits != 4 or rounding.group_size not in GROUP_SIZES or not whole_bytes:
            return None
        if steps.group_of is not None or not self._scales_are_exact():
            return None
        if rounding.symmetric:
            even = bool((steps.zeros == rounding.middle).all())
        else:
            even = bool(((steps.zeros >= 0) & (steps.zeros < 16)).all())
        zero_points = not rounding.symmetric
        scheme = int4(rounding.group_size, zero_points, rounding.activation_bits)
        return scheme if even else None

    @property
    def _steps(self) -> Steps:
        return self.layout.steps(self.parts, self.rounding)

    def _codes(self) -> Codes:
        return self.layout.codes(self.parts, self.rounding)

    def _scales_are_exact(self) -> bool:
        """As float16; a scale that multiplies nothing but zeros may be lost."""
        scales = self._steps.scales
        if scales.dtype == np.float16:
            return True
        least, greatest = _EXACT
        small = scales.dtype == ml_dtypes.bfloat16
        if small and float(scales.min()) >= least and float(scales.max()) <= greatest:
            return True
        wide = scales.astype(np.float32)
        with np.errstate(over="ignore"):
            lost = wide.astype(np.float16).astype(np.float32) != wide
        if not lost.any():
            return True
        return not (lost & self._used_groups()).any()

    def _used_groups(self) -> NDArray[np.bool_]:
        """[out, groups]: where a code differs from its zero point."""
        differ = self._codes() != self._spread(self._steps.zeros)
        size = self.rounding.group_size or self._shape[1]
        starts = np.arange(0, self._shape[1], size)
        return np.logical_or.reduceat(differ, starts, axis=1)

    def _nibbles(self) -> Array:
        codes = self._codes()
        pairs: Array = codes[:, 0::2] | codes[:, 1::2] << np.uint8(4)
        return np.ascontiguousarray(pairs)

    def _half_scales(self) -> Array:
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(self._steps.scales).astype(np.float16)

    def _values(self) -> Array:
        steps = self._steps
        signed = self._codes().astype(np.float32) - self._spread(steps.zeros)
        values: Array = signed * self._spread(steps.scales.astype(np.float32))
        return values

    def _spread(self, per_group: Array) -> Array:
        """[out, groups] to [out, in]."""
        steps, width = self._steps, self._shape[1]
        if steps.group_of is not None:
            taken: Array = per_group[:, steps.group_of]
            return taken
        return np.repeat(per_group, self.rounding.group_size or width, axis=1)[:, :width]


@dataclass(frozen=True, eq=False)
class ScaledMatrix:
    """A matrix of int8 or float8 values and their scales: a tensor file of one tensor.

    Attributes:
        parts: `weight` [out, in] and `weight_scale`: of all, of each row, or of blocks; and a
            `weight_zero_point` of the same shape where there is one.
    """

    path: Path
    rounding: Rounding
    parts: Mapping[str, Array]
    nbytes: int
    release: Callable[[], None]

    def entry(self, name: str) -> Entry:
        kind = "int8" if self.parts["weight"].dtype == np.int8 else "float8"
        return Entry(kind, self.parts["weight"].shape, 0, self.nbytes)

    def tensor(self, name: str) -> QTensor:
        weight, scales = self.parts["weight"], self.parts["weight_scale"]
        shape = weight.shape
        if not self._is_native():
            return QTensor(name, shape, FLOAT32, Made({"weight": self._values}))
        rows = Made({"weight": lambda: weight, "weight_scale": lambda: scales.astype(np.float32)})
        return QTensor(name, shape, INT8, rows)

    def _is_native(self) -> bool:
        """int8 by rows, with activations in int8 as they come."""
        weight, scales = self.parts["weight"], self.parts["weight_scale"]
        by_row = scales.shape == (len(weight), 1)
        rounded_rows = self.rounding.activation_bits == 8 and self.rounding.symmetric
        return weight.dtype == np.int8 and by_row and rounded_rows

    def _values(self) -> Array:
        weight = self.parts["weight"].astype(np.float32)
        if not self.rounding.symmetric and "weight_zero_point" in self.parts:
            weight = weight - _spread(self.parts["weight_zero_point"], weight.shape)
        values: Array = weight * _spread(self.parts["weight_scale"], weight.shape)
        return values


def _spread(values: Array, shape: tuple[int, ...]) -> Array:
    """A value of all, of each row, or of each block, to each place of a matrix."""
    wide = np.atleast_1d(values.astype(np.float32))
    wide = wide if wide.ndim == 2 else wide.reshape(-1, 1)
    for axis, size in enumerate(shape):
        wide = np.repeat(wide, -(-size // wide.shape[axis]), axis=axis)
    return wide[: shape[0], : shape[1]]
