"""The header of a GGUF file: metadata, and where each tensor stands.

Little endian: the magic, a version, how many tensors and metadata there are; then keys with typed
values, then each tensor's name, dimensions (innermost first), type and offset into the data, which
begin behind at the next multiple of `general.alignment`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vivace.core.errors import CheckpointError
from vivace.formats.mapped import MappedFile

MAGIC = b"GGUF"
VERSIONS = (2, 3)
_MAX_DIMENSIONS = 4
DEFAULT_ALIGNMENT = 32

# struct's form of each kind of value, by GGUF's number.
SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
STRING, ARRAY = 8, 9
_LENGTH_BYTES = 8

Metadata = Mapping[str, Any]


@dataclass(frozen=True)
class TensorInfo:
    """Attributes:
    shape: outermost dimension first, as numpy has it.
    type_id: of ggml's types.
    start: its first byte in the file.
    """

    name: str
    shape: tuple[int, ...]
    type_id: int
    start: int


@dataclass(frozen=True)
class Header:
    """Attributes:
    metadata: numbers, strings and truth values; arrays of strings are lists, others numpy arrays.
    tensors: by name, as the file has them.
    """

    metadata: Metadata
    tensors: Mapping[str, TensorInfo]


def read_header(file: MappedFile) -> Header:
    """Raises CheckpointError: the file is not GGUF, is of a version that is not known, is damaged
    or ends too early."""
    try:
        cursor = _Cursor(file)
        num_tensors, num_metadata = _read_start(cursor, file.path)
        metadata = dict(_pair(cursor) for _ in range(num_metadata))
        found = [_tensor(cursor) for _ in range(num_tensors)]
        data = _aligned(cursor.place, metadata)
    except OSError as error:
        raise CheckpointError(f"Cannot read {file.path}: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise CheckpointError(
            f"The header of {file.path} is damaged ({error}); download the file again."
        ) from error
    tensors = (TensorInfo(t.name, t.shape, t.type_id, data + t.start) for t in found)
    return Header(metadata, {tensor.name: tensor for tensor in tensors})


class _Cursor:
    """Reads a mapped file from its beginning. Raises ValueError past its end."""

    def __init__(self, file: MappedFile) -> None:
        if not file.path.stat().st_size:
            raise ValueError("the file is empty")
        self._bytes = file.bytes
        self.place = 0

    def take(self, num_bytes: int) -> bytes:
        start, self.place = self.place, self.place + num_bytes
        if self.place > len(self._bytes):
            raise ValueError("it ends too early")
        return self._bytes[start : self.place]

    def scalar(self, form: str) -> Any:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return value

    def string(self) -> str:
        return self.take(self.scalar("<Q")).decode()

    def strings(self, count: int) -> list[str]:
        """As `string`, a vocabulary at a time: their number makes every call count."""
        data, place, end = self._bytes, self.place, len(self._bytes)
        found = []
        for _ in range(count):
            start = place + _LENGTH_BYTES
            place = start + int.from_bytes(data[place:start], "little")
            if place > end:
                raise ValueError("it ends too early")
            found.append(data[start:place].decode())
        self.place = place
        return found


def _read_start(cursor: _Cursor, path: Path) -> tuple[int, int]:
    """How many tensors there are, and how much metadata."""
    if cursor.take(len(MAGIC)) != MAGIC:
        raise CheckpointError(f"{path} is not a GGUF file; download it again.")
    version = cursor.scalar("<I")
    if version not in VERSIONS:
        raise CheckpointError(
            f"{path} is GGUF of version {version}, which is not supported; convert the model "
            "again with a current llama.cpp."
        )
    return cursor.scalar("<Q"), cursor.scalar("<Q")


def _pair(cursor: _Cursor) -> tuple[str, Any]:
    return cursor.string(), _value(cursor, cursor.scalar("<I"))


def _value(cursor: _Cursor, kind: int) -> Any:
    if kind == STRING:
        return cursor.string()
    if kind != ARRAY:
        return cursor.scalar(SCALARS[kind])
    kind, count = cursor.scalar("<I"), cursor.scalar("<Q")
    if kind == STRING:
        return cursor.strings(count)
    if kind == ARRAY:
        return [_value(cursor, kind) for _ in range(count)]
    dtype = np.dtype(SCALARS[kind])
    return np.frombuffer(cursor.take(count * dtype.itemsize), dtype)


def _tensor(cursor: _Cursor) -> TensorInfo:
    """Its start counts from the beginning of the data yet."""
    name, dimensions = cursor.string(), cursor.scalar("<I")
    if dimensions > _MAX_DIMENSIONS:
        raise ValueError(f"tensor {name} has {dimensions} dimensions")
    shape = tuple(cursor.scalar("<Q") for _ in range(dimensions))[::-1]
    return TensorInfo(name, shape, cursor.scalar("<I"), cursor.scalar("<Q"))


def _aligned(place: int, metadata: Metadata) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError(f"general.alignment is {alignment!r}")
    return math.ceil(place / alignment) * alignment
