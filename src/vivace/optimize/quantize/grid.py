"""Integer grids: where a matrix's codes may stand, and rounding to them.

Weights are [out, in] in float32; groups run along the inputs, and the inputs are a multiple of the
group size. Code, zero point and scale mean w = scale * (code - zero point) throughout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from vivace.formats.qtensor import Scheme

Floats: TypeAlias = NDArray[np.float32]

_LEAST_SCALE = np.float32(2.0**-17)  # below, float16 has fewer digits than bfloat16


@dataclass(frozen=True)
class Grid:
    """The steps that each group of a matrix is rounded in.

    Attributes:
        scales: [out, groups], exactly as they will be stored.
        zeros: [out, groups], whole numbers; all zero where the scheme is symmetric.
    """

    scheme: Scheme
    scales: Floats
    zeros: Floats

    @property
    def group_size(self) -> int | None:
        return self.scheme.group_size

    def spread(self, width: int) -> tuple[Floats, Floats]:
        """Scales and zero points of each weight: [out, width] both."""
        each = width // self.scales.shape[1]
        return np.repeat(self.scales, each, axis=1), np.repeat(self.zeros, each, axis=1)

    def round(self, weights: Floats) -> Rounded:
        """Every weight to the nearest code, halves to even."""
        scales, zeros = self.spread(weights.shape[1])
        return Rounded(self, to_codes(weights, scales, zeros, code_range(self.scheme)))


@dataclass(frozen=True)
class Rounded:
    """A matrix on a grid: `codes` int16 [out, in]."""

    grid: Grid
    codes: NDArray[np.int16]

    def rows(self, chosen: slice) -> Rounded:
        """Some of its outputs."""
        grid = replace(self.grid, scales=self.grid.scales[chosen], zeros=self.grid.zeros[chosen])
        return Rounded(grid, self.codes[chosen])

    def values(self) -> Floats:
        """What the codes stand for: float32 [out, in]."""
        scales, zeros = self.grid.spread(self.codes.shape[1])
        result: Floats = (self.codes - zeros) * scales
        return result


def code_range(scheme: Scheme) -> tuple[int, int]:
    """The least and the greatest code. int8 has no -128, so that its grid is symmetric."""
    if scheme.zero_points:
        return 0, 2**scheme.bits - 1
    half = 2 ** (scheme.bits - 1)
    return (1 - half if scheme.bits == 8 else -half), half - 1


def fit(weights: Floats, scheme: Scheme, limits: Floats | None = None) -> Grid:
    """The grid that spans each group's range.

    Symmetric groups of less than 8 bits put their largest value half a step past the last code,
    where clipping costs no more than rounding does.

    Args:
        limits: [out, groups], largest magnitudes to span; None takes the weights' own.
    """
    groups = grouped(weights, scheme.group_size)
    if limits is not None:
        groups = np.clip(groups, -limits[..., None], limits[..., None])
    low, high = code_range(scheme)
    if not scheme.zero_points:
        steps = np.float32(high if scheme.bits == 8 else high + 0.5)
        scales = stored_scales(np.abs(groups).max(axis=2) / steps, scheme)
        return Grid(scheme, scales, np.zeros_like(scales))
    least, greatest = np.minimum(groups.min(axis=2), 0), np.maximum(groups.max(axis=2), 0)
    scales = stored_scales((greatest - least) / np.float32(high - low), scheme)
    return Grid(scheme, scales, np.clip(_steps(-least, scales), low, high))


def grouped(weights: Floats, group_size: int | None) -> Floats:
    """[out, groups, group size]; without groups a row is one."""
    return weights.reshape(len(weights), -1, group_size or weights.shape[1])


def to_codes(
    weights: Floats, scales: Floats, zeros: Floats, limits: tuple[int, int]
) -> NDArray[np.int16]:
    """The nearest codes within `limits`; the zero point where the scale is zero."""
    codes: NDArray[np.int16] = np.clip(_steps(weights, scales) + zeros, *limits).astype(np.int16)
    return codes


def stored_scales(scales: Floats, scheme: Scheme) -> Floats:
    """Scales as they will be stored, before any code is found by them.

    Those of groups are values of both float16, which the kernels read, and bfloat16, which others
    load weights in: so everybody multiplies by the same ones.
    """
    if scheme.bits == 8:
        return scales.astype(np.float32)
    narrow = scales.astype(ml_dtypes.bfloat16).astype(np.float32)
    kept: Floats = np.where(scales > 0, np.maximum(narrow, _LEAST_SCALE), np.float32(0))
    return kept


def _steps(values: Floats, scales: Floats) -> Floats:
    quotients = np.divide(values, scales, out=np.zeros_like(values), where=scales != 0)
    rounded: Floats = np.rint(quotients)
    return rounded
