"""Stored tensors as native code takes them: which schemes there are, and how rows are read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.backends.cpu import _native
from vivace.backends.protocol import DTypeName
from vivace.core.errors import BackendError
from vivace.formats.qtensor import QTensor, Scheme
from vivace.formats.schemes import GROUP_SIZES

# What activations are multiplied as, for each kind of weights and the bits that a scheme gives
# activations (None: as they come).
ROW_KINDS: dict[tuple[str, int | None], str] = {
    ("float32", None): "float32",
    ("bfloat16", None): "bfloat16",
    ("int8", 8): "int8",
    ("int4", 8): "int8",
    ("int4", None): "bfloat16",
}
_STORED_FLOATS = ("float32", "float16", "bfloat16")
_TABLE_KINDS = ("float32", "bfloat16", "int8")


def table_type(tensor: QTensor, asked: Scheme | None, dtype: DTypeName) -> _native.SourceType:
    """How native code keeps the rows of a table.

    Raises:
        BackendError: it cannot.
    """
    scheme = asked if tensor.scheme.is_float else tensor.scheme
    kind = _kind(scheme, dtype)
    if kind not in _TABLE_KINDS or (scheme and scheme.group_size):
        raise BackendError(
            f"The cpu backend cannot keep {tensor.name} in {kind}: take int8 for the embedding, or "
            "leave it as it is."
        )
    return _native.SourceType[kind]


def weight_format(scheme: Scheme | None, dtype: DTypeName) -> _native.WeightFormat:
    """How native code keeps weights of a scheme.

    Raises:
        BackendError: it cannot.
    """
    kind = _kind(scheme, dtype)
    rows = ROW_KINDS.get((kind, scheme.activation_bits if scheme else None))
    group = (scheme.group_size if scheme else None) or 0
    if rows is None or group not in (GROUP_SIZES if kind == "int4" else (0,)):
        name = scheme.name if scheme else dtype
        raise BackendError(
            f"The cpu backend cannot multiply by weights in {name}: take float32, bfloat16, int8, "
            f"or int4 in groups of one of {', '.join(map(str, GROUP_SIZES))}."
        )
    return _native.WeightFormat(
        _native.WeightKind[kind],
        _native.RowKind[rows],
        group,
        scheme.zero_points if scheme else False,
    )


def part_of(tensor: QTensor) -> _native.Part:
    """A tensor's stored rows, not copied unless they are out of order."""
    scheme, buffers = tensor.scheme, tensor.buffers
    if scheme.is_float:
        return _float_part(tensor)
    if scheme.bits == 8:
        scales = _ordered(buffers["weight_scale"])
        return _native.Part(_ordered(buffers["weight"]), _native.SourceType.int8, scales, None)
    zero_points = buffers.get("weight_zero_point")
    return _native.Part(
        _ordered(buffers["weight_packed"]),
        _native.SourceType.int4,
        _ordered(buffers["weight_scale"]).view(np.uint16),
        None if zero_points is None else _ordered(zero_points),
    )


def _kind(scheme: Scheme | None, dtype: DTypeName) -> str:
    if scheme is None:
        return dtype
    return scheme.name if scheme.is_float else f"int{scheme.bits}"


def _float_part(tensor: QTensor) -> _native.Part:
    name = tensor.scheme.name
    if name not in _STORED_FLOATS:
        raise BackendError(f"The cpu backend cannot read {tensor.name} as {name}.")
    rows = _ordered(tensor.buffers["weight"])
    bits = rows if name == "float32" else rows.view(np.uint16)
    return _native.Part(bits, _native.SourceType[name], None, None)


def _ordered(array: NDArray[Any]) -> NDArray[Any]:
    return np.require(array, requirements=("C", "A"))
