"""Rounding to nearest, in float32 and bit for bit as native code does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vivace.formats.qtensor import Array, QTensor, Scheme

Floats = NDArray[np.float32]

SILENT = np.float32(1e-30)  # a row of activations below it is taken as zero


def round_to(tensor: QTensor, scheme: Scheme) -> QTensor:
    """A matrix [out, in] in an integer scheme, every weight rounded to nearest.

    int8 scales are absmax / 127 and int4 ones absmax / 7.5: a group's largest value lies half a
    step past code 7, where clipping costs no more than rounding does. Zero points span the
    group's range with zero in it. int4 scales are rounded to float16 before the codes are found;
    a group whose scale is zero is all zero.
    """
    weights = tensor.to_float32()
    buffers = _int8(weights) if scheme.group_size is None else _int4(weights, scheme)
    return QTensor(tensor.name, tensor.shape, scheme, buffers)


def stored_as(parts: Sequence[QTensor], scheme: Scheme | None) -> list[QTensor]:
    """Parts of one linear, the float ones rounded to `scheme` where there is one."""
    if scheme is None:
        return list(parts)
    return [round_to(part, scheme) if part.scheme.is_float else part for part in parts]


def quantize_rows(x: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Activations [rows, width] as int8 codes and scales [rows]: x is about code * scale.

    A row that is not finite has the scale NaN, and so have its products.
    """
    absmax = np.abs(x).max(axis=-1, initial=0)
    absmax = np.where(np.isinf(absmax), np.float32(np.nan), absmax)
    loud = absmax >= SILENT
    factor = np.float32(127) / np.where(loud, absmax, np.float32(1))
    codes = np.rint(np.where(loud[:, None], x, np.float32(0)) * factor[:, None])
    scales = np.where(absmax < SILENT, np.float32(0), absmax / np.float32(127))
    return codes.astype(np.int8), scales


def _int8(weights: Floats) -> Mapping[str, Array]:
    scales = np.abs(weights).max(axis=1, initial=0, keepdims=True) / np.float32(127)
    codes = np.clip(_steps(weights, scales), -127, 127).astype(np.int8)
    return {"weight": codes, "weight_scale": scales}


def _int4(weights: Floats, scheme: Scheme) -> Mapping[str, Array]:
    groups = _grouped(weights, scheme)
    if not scheme.zero_points:
        scales = _half(np.abs(groups).max(axis=2) / np.float32(7.5))
        codes = np.clip(_steps(groups, scales[..., None]), -8, 7) + 8
        return {"weight_packed": _pack(codes, weights.shape[1]), "weight_scale": _stored(scales)}
    low, high = np.minimum(groups.min(axis=2), 0), np.maximum(groups.max(axis=2), 0)
    scales = _half((high - low) / np.float32(15))
    zero_points = np.clip(_steps(-low, scales), 0, 15)
    codes = np.clip(_steps(groups, scales[..., None]) + zero_points[..., None], 0, 15)
    return {
        "weight_packed": _pack(codes, weights.shape[1]),
        "weight_scale": _stored(scales),
        "weight_zero_point": zero_points.astype(np.uint8),
    }


def _grouped(weights: Floats, scheme: Scheme) -> Floats:
    """[out, groups, group_size]; zeros, which move no range, fill up the last group."""
    assert scheme.group_size is not None
    missing = -weights.shape[1] % scheme.group_size
    padded = np.pad(weights, ((0, 0), (0, missing)))
    return padded.reshape(len(weights), -1, scheme.group_size)


def _steps(values: Floats, scales: Floats) -> Floats:
    """How many scales each value is, to the nearest integer; 0 where the scale is 0."""
    quotients = np.divide(values, scales, out=np.zeros_like(values), where=scales > 0)
    rounded: Floats = np.rint(quotients)
    return rounded


def _half(scales: Floats) -> Floats:
    return scales.astype(np.float16).astype(np.float32)


def _stored(scales: Floats) -> NDArray[np.float16]:
    return scales.astype(np.float16)


def _pack(codes: Floats, width: int) -> NDArray[np.uint8]:
    """Codes [out, groups, group_size] as nibbles [out, ceil(width / 2)]. Behind an odd width
    stands the zero point: the code of the zeros that fill up the group."""
    flat = codes.astype(np.uint8).reshape(len(codes), -1)[:, : width + width % 2]
    packed: NDArray[np.uint8] = np.bitwise_or(flat[:, 0::2], flat[:, 1::2] * np.uint8(16))
    return packed
