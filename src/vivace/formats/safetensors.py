"""Reads the safetensors format: tensors are views of a memory-mapped file, nothing is copied.

A file is eight bytes of header length (little endian), a JSON header that maps each name to its
dtype, shape and byte range, and the bytes. https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from vivace.core.errors import CheckpointError
from vivace.formats.mapped import MappedFile
from vivace.formats.qtensor import Array, QTensor

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit

FLOAT_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_RAW_DTYPES: dict[str, np.dtype[Any]] = {
    **FLOAT_DTYPES,
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I8": np.dtype(np.int8),
}
_ITEM_BYTES = {
    **{name: dtype.itemsize for name, dtype in FLOAT_DTYPES.items()},
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("I32", "U32"), 4),
    **dict.fromkeys(("I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 1),
}


@dataclass(frozen=True)
class Entry:
    """One tensor of a header: its byte range counts from the file's first byte."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        return self.stop - self.start


class SafetensorsFile:
    """One file. Opening it reads and checks the header alone.

    Raises:
        CheckpointError: the file is not safetensors, is damaged, or is shorter than it says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries = _read_entries(path)
        self._file = MappedFile(path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def entry(self, name: str) -> Entry:
        return self._entries[name]

    def tensor(self, name: str) -> QTensor:
        """A view of the file. Raises CheckpointError for a dtype that is not a float of 16 or 32
        bits."""
        return QTensor.from_array(name, self._view(name, FLOAT_DTYPES))

    def raw(self, name: str) -> Array:
        """A view of the file, of integers too: what quantized tensors are made of. Raises
        CheckpointError for a dtype that none has."""
        return self._view(name, _RAW_DTYPES)

    def release(self) -> None:
        """Take what was read out of this process' resident memory; views stay valid."""
        self._file.release()

    def _view(self, name: str, known: Mapping[str, np.dtype[Any]]) -> Array:
        entry = self._entries[name]
        dtype = known.get(entry.dtype)
        if dtype is None:
            raise CheckpointError(
                f"Tensor {name} in {self.path} has dtype {entry.dtype}; "
                f"only {', '.join(known)} are supported."
            )
        count = math.prod(entry.shape)
        array = np.frombuffer(self._file.bytes, dtype, count, entry.start).reshape(entry.shape)
        # Writers align every tensor; one that did not costs a copy, never a wrong read.
        return np.require(array, requirements="A")


def _read_entries(path: Path) -> dict[str, Entry]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            data_start = _LENGTH_BYTES + length
            if size < _LENGTH_BYTES or length > _MAX_HEADER_BYTES:
                raise CheckpointError(f"{path} is not a safetensors file; download it again.")
            if data_start > size:
                raise _truncated(path, size, data_start)
            header = file.read(length)
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror}.") from error
    entries = _parse_header(path, header, data_start)
    needed = max((entry.stop for entry in entries.values()), default=data_start)
    if needed > size:
        raise _truncated(path, size, needed)
    return entries


def _truncated(path: Path, size: int, needed: int) -> CheckpointError:
    return CheckpointError(
        f"{path} is truncated: it has {size} bytes of {needed}; download it again."
    )


def _parse_header(path: Path, header: bytes, data_start: int) -> dict[str, Entry]:
    try:
        values = json.loads(header)
        return {
            name: _parse_entry(value, data_start)
            for name, value in values.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"The header of {path} is damaged ({error}); download the file again."
        ) from error


def _parse_entry(value: dict[str, Any], data_start: int) -> Entry:
    start, stop = (int(offset) for offset in value["data_offsets"])
    dtype, shape = str(value["dtype"]), tuple(int(size) for size in value["shape"])
    item_bytes = _ITEM_BYTES.get(dtype)
    if not 0 <= start <= stop or min(shape, default=0) < 0:
        raise ValueError(f"byte range {start} to {stop} of shape {list(shape)}")
    if item_bytes is not None and stop - start != math.prod(shape) * item_bytes:
        raise ValueError(f"{stop - start} bytes for {dtype} of shape {list(shape)}")
    return Entry(dtype, shape, data_start + start, data_start + stop)
