"""Writing a GGUF file: tensor by tensor beside its place, and moved there once it is whole."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vivace.core.errors import UsageError
from vivace.formats.gguf.blocks import TYPES, TensorType
from vivace.formats.gguf.header import (
    ARRAY,
    DEFAULT_ALIGNMENT,
    MAGIC,
    SCALARS,
    STRING,
    VERSIONS,
    Metadata,
)
from vivace.formats.qtensor import Array

EVIDENCE_KEY = "vivace.evidence"
_EVIDENCE_BYTES = 4096  # kept free in the header: evidence is measured on the file itself
_NO_EVIDENCE = " " * _EVIDENCE_BYTES

_TYPE_IDS = {kind.name: type_id for type_id, kind in TYPES.items()}
_ITEM_KINDS = {np.dtype(form): kind for kind, form in SCALARS.items()}
_KINDS: Mapping[type, int] = {bool: 7, int: 4, float: 6, str: STRING}  # int as uint32


@dataclass(frozen=True)
class NewTensor:
    """Attributes:
    shape: outermost dimension first.
    """

    name: str
    shape: tuple[int, ...]
    kind: TensorType

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape[:-1]) * self.kind.row_bytes(self.shape[-1])


class PartialFile:
    """The file OUT.partial.gguf. Where its magic will stand, it counts until then the parts that
    are done: nothing loads it, and a run of the same header goes on there.

    Args:
        out: where the file will stand.
        metadata: numbers, truth values, strings, lists of strings, numpy arrays of numbers.
        tensors: in their order in the file.
    """

    def __init__(self, out: Path, metadata: Metadata, tensors: Sequence[NewTensor]) -> None:
        self.out = out
        self.path = out.with_name(f"{out.stem}.partial{out.suffix}")
        self._tensors = {tensor.name: tensor for tensor in tensors}
        self._header = _header({**metadata, EVIDENCE_KEY: _NO_EVIDENCE}, tensors)
        self._starts, end = {}, len(self._header)
        for tensor in tensors:
            self._starts[tensor.name] = end
            end = _aligned(end + tensor.nbytes)
        self._size = end

    def open(self, parts: int) -> int:
        """Begin, or go on with what a run of the same header left: how many parts are done.

        Args:
            parts: that there are.

        Raises:
            UsageError: the place is taken.
        """
        if self.out.exists():
            raise UsageError(f"{self.out} is there already; give another name, or remove it.")
        if not self.path.exists():
            with self.path.open("wb") as file:
                file.write(bytes(len(MAGIC)) + self._header[len(MAGIC) :])
                file.truncate(self._size)
            return 0
        with self.path.open("rb") as file:
            start = file.read(len(self._header))
        if start[len(MAGIC) :] != self._header[len(MAGIC) :]:
            raise UsageError(
                f"{self.path} is of a run with another model, type or method; remove it."
            )
        (done,) = struct.unpack("<I", start[: len(MAGIC)])
        return parts if start[: len(MAGIC)] == MAGIC else int(done)

    def write(self, name: str, rows: Array, start: int = 0) -> None:
        """Some of a tensor's bytes, from its byte `start` on. Raises ValueError past its end."""
        if start + rows.nbytes > self._tensors[name].nbytes:
            raise ValueError(f"{name} ends before byte {start + rows.nbytes}.")
        content = np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
        self._write(self._starts[name] + start, content.data)

    def read(self, name: str) -> Array:
        """The bytes of a tensor that was written."""
        tensor = self._tensors[name]
        return np.fromfile(self.path, np.uint8, tensor.nbytes, offset=self._starts[name])

    def mark(self, parts: int) -> None:
        """So many parts are done, and need not be done again."""
        self._put(0, struct.pack("<I", parts))

    def complete(self) -> None:
        """All tensors are written; from now on the partial file loads."""
        self._put(0, MAGIC)

    def describe(self, evidence: Mapping[str, Any]) -> None:
        """Put what was measured into the header; it is left out where it does not fit."""
        text = json.dumps(evidence).encode()
        if len(text) <= _EVIDENCE_BYTES:
            place = self._header.index(_NO_EVIDENCE.encode())
            self._put(place, text.ljust(_EVIDENCE_BYTES))

    def publish(self) -> None:
        """Move the file to its place."""
        self.path.rename(self.out)

    def _write(self, place: int, content: memoryview) -> None:
        with self.path.open("r+b") as file:
            file.seek(place)
            file.write(content)

    def _put(self, place: int, content: bytes) -> None:
        """Into the header, on the disk no sooner than what was written before."""
        with self.path.open("r+b") as file:
            os.fsync(file.fileno())
            file.seek(place)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def _header(metadata: Metadata, tensors: Sequence[NewTensor]) -> bytes:
    parts = [MAGIC, struct.pack("<IQQ", max(VERSIONS), len(tensors), len(metadata))]
    for key, value in metadata.items():
        parts += [_string(key), _typed(value)]
    place = 0
    for tensor in tensors:
        shape = tensor.shape[::-1]
        parts += [_string(tensor.name), struct.pack(f"<I{len(shape)}Q", len(shape), *shape)]
        parts += [struct.pack("<IQ", _TYPE_IDS[tensor.kind.name], place)]
        place = _aligned(place + tensor.nbytes)
    whole = b"".join(parts)
    return whole.ljust(_aligned(len(whole)), b"\0")


def _aligned(place: int) -> int:
    return -(-place // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT


def _string(text: str) -> bytes:
    content = text.encode()
    return struct.pack("<Q", len(content)) + content


def _typed(value: Any) -> bytes:
    """A kind and a value."""
    if isinstance(value, np.ndarray):
        head = struct.pack("<IIQ", ARRAY, _ITEM_KINDS[value.dtype], len(value))
        return head + value.tobytes()
    if isinstance(value, list):
        return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(map(_string, value))
    kind = _KINDS[type(value)]
    content = _string(value) if kind == STRING else struct.pack(SCALARS[kind], value)
    return struct.pack("<I", kind) + content
