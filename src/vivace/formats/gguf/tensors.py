"""The tensors of a GGUF file under the names, and in the order of rows, of a Hugging Face
checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vivace.core.errors import CheckpointError
from vivace.formats.gguf.architectures import Architecture, usual_name
from vivace.formats.gguf.blocks import TYPES, UNSUPPORTED, Bytes, TensorType, bit_planes, dequantize
from vivace.formats.gguf.header import Header, TensorInfo
from vivace.formats.made import Made
from vivace.formats.mapped import MappedFile
from vivace.formats.qtensor import FLOAT32, Array, QTensor
from vivace.formats.safetensors import Entry
from vivace.formats.schemes import int4

# What backends multiply by as it is stored; activations keep their precision.
Q4_0_SCHEME = int4(32, activation_bits=None)
_EMBEDDING = "model.embed_tokens.weight"  # its rows are looked up, for which there are only floats


@dataclass(frozen=True)
class _Place:
    """Where a tensor stands, as rows of whole blocks; a vector is one row.

    Attributes:
        start: its first byte in the file.
        heads: whose rows are to be put in order, or 0.
        offset: to take away from its values.
    """

    type_id: int
    shape: tuple[int, ...]
    start: int
    rows: int
    width: int
    heads: int = 0
    offset: float = 0.0


class GGUFTensors:
    """Opening it checks that every tensor is whole.

    Args:
        heads: of queries and of keys.

    Raises:
        CheckpointError: a tensor reaches beyond the file, or has no whole blocks.
    """

    def __init__(
        self, file: MappedFile, header: Header, architecture: Architecture, heads: tuple[int, int]
    ) -> None:
        self._file = file
        _check_whole(file.path, header)
        self._places = dict(_places(header, architecture, heads))

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    @property
    def path(self) -> Path:
        return self._file.path

    def release(self) -> None:
        """Take what was read out of this process' resident memory; views stay valid."""
        self._file.release()

    def entry(self, name: str) -> Entry:
        place = self._places[name]
        kind = TYPES.get(place.type_id)
        num_bytes = place.rows * kind.row_bytes(place.width) if kind else 0
        return Entry(type_name(place.type_id), place.shape, place.start, place.start + num_bytes)

    def tensor(self, name: str) -> QTensor:
        """Floats are views of the file; integers are taken out of their blocks whenever they are
        looked at.

        Raises:
            CheckpointError: its type is not supported.
        """
        place = self._places[name]
        kind = _supported(name, place.type_id)
        if kind.decode is None:
            return QTensor.from_array(name, _floats(self._rows(place, kind), place, kind))
        if kind.name == "Q4_0" and len(place.shape) == 2 and name != _EMBEDDING:
            return QTensor(name, place.shape, Q4_0_SCHEME, self._int4(place, kind))
        values = Made({"weight": lambda: self._values(place, kind)})
        return QTensor(name, place.shape, FLOAT32, values)

    def _values(self, place: _Place, kind: TensorType) -> Array:
        return dequantize(self._rows(place, kind), kind).reshape(place.shape)

    def _int4(self, place: _Place, kind: TensorType) -> Mapping[str, Array]:
        """The file's codes and scales: nibbles change places, nothing is rounded."""

        def packed() -> Array:
            blocks = self._rows(place, kind).view(kind.block)
            codes = bit_planes(blocks["codes"].reshape(-1, 16), 16, 4).reshape(place.shape)
            pairs: Array = codes[:, 0::2] | codes[:, 1::2] << np.uint8(4)
            return pairs

        def scales() -> Array:
            return np.ascontiguousarray(self._rows(place, kind).view(kind.block)["d"])

        return Made({"weight_packed": packed, "weight_scale": scales})

    def _rows(self, place: _Place, kind: TensorType) -> Bytes:
        """[rows, row bytes]: a view of the file unless rows are to be put in order."""
        row_bytes = kind.row_bytes(place.width)
        flat = np.frombuffer(self._file.bytes, np.uint8, place.rows * row_bytes, place.start)
        rows = flat.reshape(place.rows, row_bytes)
        return _halves_apart(rows, place.heads) if place.heads else rows


def type_name(type_id: int) -> str:
    if type_id in TYPES:
        return TYPES[type_id].name
    return UNSUPPORTED.get(type_id, f"type {type_id}")


def float_values(file: MappedFile, header: Header, name: str) -> list[float]:
    """A small vector of float32 that Hugging Face checkpoints do not have; empty where the file
    does not have it either.

    Raises:
        CheckpointError: it is of another type, or reaches beyond the file.
    """
    info = header.tensors.get(name)
    if info is None:
        return []
    if type_name(info.type_id) != "F32":
        raise CheckpointError(f"Tensor {name} in {file.path} is {type_name(info.type_id)}, no F32.")
    _check_whole(file.path, Header({}, {name: info}))
    values = np.frombuffer(file.bytes, "<f4", math.prod(info.shape), info.start)
    return [float(value) for value in values]


def _floats(rows: Bytes, place: _Place, kind: TensorType) -> Array:
    array = rows.view(kind.block).reshape(place.shape)
    if not place.offset:
        return np.require(array, requirements="A")
    moved: Array = array.astype(np.float32) - np.float32(place.offset)
    return moved


def _halves_apart(rows: Bytes, heads: int) -> Bytes:
    """Rows of heads whose pairs are neighbours, to heads whose pairs are half a head apart."""
    neighbours = rows.reshape(heads, -1, 2, rows.shape[1])
    return np.ascontiguousarray(neighbours.swapaxes(1, 2)).reshape(rows.shape)


def _supported(name: str, type_id: int) -> TensorType:
    kind = TYPES.get(type_id)
    if kind is None:
        raise CheckpointError(
            f"Tensor {name} is stored as {type_name(type_id)}, which is not supported; take a "
            f"file of {', '.join(kind.name for kind in TYPES.values())}."
        )
    return kind


def _check_whole(path: Path, header: Header) -> None:
    size = path.stat().st_size
    for info in header.tensors.values():
        try:
            end = info.start + _num_bytes(info)
        except ValueError as error:
            raise CheckpointError(
                f"Tensor {info.name} in {path} is damaged ({error}); download the file again."
            ) from error
        if end > size:
            raise CheckpointError(
                f"{path} is truncated: it has {size} bytes of {end}; download it again."
            )


def _num_bytes(info: TensorInfo) -> int:
    """Raises ValueError where its rows have no whole blocks."""
    if not info.shape:
        raise ValueError("it has no dimensions")
    kind = TYPES.get(info.type_id)
    return math.prod(info.shape[:-1]) * kind.row_bytes(info.shape[-1]) if kind else 0


def _places(
    header: Header, architecture: Architecture, heads: tuple[int, int]
) -> Iterator[tuple[str, _Place]]:
    for info in header.tensors.values():
        name = usual_name(architecture, info.name)
        if name is None:
            continue
        if "{}" not in name:
            yield name, _place(name, info, architecture, heads)
        elif len(info.shape) == 3:
            yield from _experts(name, info)


def _place(
    name: str, info: TensorInfo, architecture: Architecture, heads: tuple[int, int]
) -> _Place:
    moved = _moved_heads(name, heads) if architecture.rotary_neighbours else 0
    is_vector = len(info.shape) == 1
    offset = architecture.gain_offset if is_vector and name.endswith("norm.weight") else 0.0
    # A moved vector has a row for each value.
    rows = 1 if is_vector and not moved else info.shape[0]
    width = math.prod(info.shape) // max(rows, 1)
    if moved and rows % (2 * moved):
        raise CheckpointError(f"Tensor {info.name} has {rows} rows, no pairs in {moved} heads.")
    return _Place(info.type_id, info.shape, info.start, rows, width, moved, offset)


def _moved_heads(name: str, heads: tuple[int, int]) -> int:
    if ".q_proj." in name:
        return heads[0]
    return heads[1] if ".k_proj." in name else 0


def _experts(name: str, info: TensorInfo) -> Iterator[tuple[str, _Place]]:
    """Each expert's part of a tensor [experts, rows, width]."""
    experts, *shape = info.shape
    each = _num_bytes(info) // max(experts, 1)
    for expert in range(experts):
        start = info.start + expert * each
        yield name.format(expert), _Place(info.type_id, tuple(shape), start, shape[0], shape[-1])
