"""Keys and values to packed pages and back, in float32 and bit for bit as native code does it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from vivace.formats.kv_format import (
    KV_BLOCK_TOKENS,
    MIDDLE_CODE,
    KVFormat,
    head_layout,
    value_groups,
    value_width,
)
from vivace.formats.rounding import SILENT

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_RUN = 16  # nibbles so far apart share a byte


@dataclass(frozen=True)
class Codes:
    """Groups along the last axis, each with one scale and one zero point: a value is
    (codes + zeros) * scales. Zero points of symmetric groups are 0."""

    codes: Floats
    scales: Floats
    zeros: Floats

    def values(self) -> Floats:
        values: Floats = (self.codes + self.zeros[..., None]) * self.scales[..., None]
        return values


def round_keys(keys: Floats, format: KVFormat) -> Codes:
    """Keys [..., channels, tokens], a group per channel.

    int8 scales are absmax / 127. int4 spans the channel's range by sixteen steps, whose first is
    a zero point of at most 127 steps: a channel far from zero gets larger steps instead.
    """
    if format.bits == 8:
        return _symmetric(keys, np.float32(127), -127, 127)
    finite, absmax = _finite(keys)
    low, high = finite.min(axis=-1), finite.max(axis=-1)
    span = np.maximum(high / np.float32(15) - low / np.float32(15), absmax / np.float32(127))
    scales = _stored_scales(span, absmax)
    zeros = np.clip(_steps(low, scales), -127, 127)
    codes = np.clip(_steps(finite, scales[..., None]) - zeros[..., None], 0, 15)
    return Codes(codes, scales, zeros)


def round_values(values: Floats, format: KVFormat) -> Codes:
    """Values [..., tokens, groups, channels of a group]: int8 scales are absmax / 127, int4 ones
    absmax / 7.5."""
    if format.bits == 8:
        return _symmetric(values, np.float32(127), -127, 127)
    return _symmetric(values, np.float32(7.5), -8, 7)


def pack_blocks(keys: Floats, values: Floats, format: KVFormat) -> Bytes:
    """Blocks of keys and values [..., 32, heads, d] as packed pages [..., heads, bytes].

    A group that is not finite has the scale NaN; one that is silent has the scale 0.
    """
    head_dim = keys.shape[-1]
    layout = head_layout(format, head_dim)
    key = round_keys(np.moveaxis(keys, -3, -1), format)
    value = round_values(_value_groups(np.moveaxis(values, -3, -2), format), format)
    middle = MIDDLE_CODE[format.bits]
    packed = np.zeros((*key.scales.shape[:-1], layout.num_bytes), np.uint8)
    key_codes = key.codes + np.float32(middle if format.bits == 8 else 0)
    packed[..., layout.key_codes] = _bytes_of_codes(_flat(key_codes, 2), format)
    packed[..., layout.value_codes] = _bytes_of_codes(_flat(value.codes, 3) + middle, format)
    packed[..., layout.key_scales] = _bytes_of_scales(key.scales)
    packed[..., layout.value_scales] = _bytes_of_scales(_flat(value.scales, 2))
    if format.bits == 4:
        packed[..., layout.key_zeros] = key.zeros.astype(np.int8).view(np.uint8)
    return packed


def unpack_blocks(packed: Bytes, format: KVFormat, head_dim: int) -> tuple[Floats, Floats]:
    """Packed pages [..., heads, bytes] as keys and values [..., 32, heads, d]."""
    key, value = _keys_of(packed, format, head_dim), _values_of(packed, format, head_dim)
    flat = _flat(value.values(), 2)[..., :head_dim]
    return np.moveaxis(key.values(), -1, -3), np.moveaxis(flat, -2, -3)


def _keys_of(packed: Bytes, format: KVFormat, head_dim: int) -> Codes:
    layout, lead = head_layout(format, head_dim), packed.shape[:-1]
    codes = _codes_of_bytes(packed[..., layout.key_codes], format)
    scales = _scales_of_bytes(packed[..., layout.key_scales])
    zeros = np.full_like(scales, -MIDDLE_CODE[format.bits])
    if format.bits == 4:
        stored = np.ascontiguousarray(packed[..., layout.key_zeros])
        zeros = stored.view(np.int8).astype(np.float32)
    return Codes(codes.reshape(*lead, head_dim, KV_BLOCK_TOKENS), scales, zeros)


def _values_of(packed: Bytes, format: KVFormat, head_dim: int) -> Codes:
    layout, lead = head_layout(format, head_dim), packed.shape[:-1]
    shape = *lead, KV_BLOCK_TOKENS, value_groups(format, head_dim)
    codes = _codes_of_bytes(packed[..., layout.value_codes], format)
    codes = codes.reshape(*shape, value_width(head_dim) // shape[-1])
    scales = _scales_of_bytes(packed[..., layout.value_scales]).reshape(shape)
    return Codes(codes, scales, np.full_like(scales, -MIDDLE_CODE[format.bits]))


def _symmetric(x: Floats, steps: np.float32, low: int, high: int) -> Codes:
    finite, absmax = _finite(x)
    scales = _stored_scales(np.divide(absmax, steps), absmax)
    codes = np.clip(_steps(finite, scales[..., None]), low, high)
    return Codes(codes, scales, np.zeros_like(scales))


def _finite(x: Floats) -> tuple[Floats, Floats]:
    """Groups along the last axis with zeros for those that are not finite, and each one's absmax:
    NaN for those."""
    absmax = np.abs(x).max(axis=-1)
    absmax = np.where(np.isfinite(absmax), absmax, np.float32(np.nan))
    return np.where(np.isnan(absmax)[..., None], np.float32(0), x), absmax


def _stored_scales(scales: Floats, absmax: Floats) -> Floats:
    loud = np.where(absmax < SILENT, np.float32(0), scales)
    stored: Floats = loud.astype(ml_dtypes.bfloat16).astype(np.float32)
    return stored


def _steps(x: Floats, scales: Floats) -> Floats:
    """How many scales each value is, to the nearest integer; 0 where there is no scale."""
    x, scales = np.broadcast_arrays(x, scales)
    quotients = np.divide(x, scales, out=np.zeros(x.shape, np.float32), where=scales > 0)
    rounded: Floats = np.rint(quotients)
    return rounded


def _value_groups(values: Floats, format: KVFormat) -> Floats:
    """[..., tokens, d] as [..., tokens, groups, channels], padded with zeros."""
    head_dim = values.shape[-1]
    width, groups = value_width(head_dim), value_groups(format, head_dim)
    padding = [(0, 0)] * (values.ndim - 1) + [(0, width - head_dim)]
    return np.pad(values, padding).reshape(*values.shape[:-1], groups, width // groups)


def _flat(x: Floats, axes: int) -> Floats:
    """The last axes as one."""
    return x.reshape(*x.shape[:-axes], math.prod(x.shape[-axes:]))


def _bytes_of_codes(codes: Floats, format: KVFormat) -> Bytes:
    """[..., n] as [..., n * bits / 8]."""
    stored: Bytes = codes.astype(np.uint8)
    if format.bits == 8:
        return stored
    lead, size = codes.shape[:-1], codes.shape[-1]
    runs = stored.reshape(*lead, size // (2 * _RUN), 2, _RUN)
    packed: Bytes = runs[..., 0, :] | (runs[..., 1, :] << np.uint8(4))
    return packed.reshape(*lead, size // 2)


def _codes_of_bytes(packed: Bytes, format: KVFormat) -> Floats:
    if format.bits == 8:
        return packed.astype(np.float32)
    lead, size = packed.shape[:-1], packed.shape[-1]
    runs = packed.reshape(*lead, size // _RUN, 1, _RUN)
    codes = np.concatenate([runs & np.uint8(15), runs >> np.uint8(4)], axis=-2)
    return codes.reshape(*lead, 2 * size).astype(np.float32)


def _bytes_of_scales(scales: Floats) -> Bytes:
    return np.ascontiguousarray(scales.astype(ml_dtypes.bfloat16)).view(np.uint8)


def _scales_of_bytes(packed: Bytes) -> Floats:
    scales: Floats = np.ascontiguousarray(packed).view(ml_dtypes.bfloat16).astype(np.float32)
    return scales
