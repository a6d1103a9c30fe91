"""Writes small GGUF files, value by value as the format's description has it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ALIGNMENT = 32
F32 = 0

Tensor = tuple[int, tuple[int, ...], bytes]  # ggml's type, the shape as numpy has it, the data


def write_gguf(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    path.write_bytes(gguf_bytes(metadata, tensors))
    return path


def gguf_bytes(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    header += b"".join(string(key) + value(item) for key, item in metadata.items())
    data = b""
    for name, (kind, shape, content) in tensors.items():
        dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
        header += string(name) + dimensions + struct.pack("<IQ", kind, len(data))
        data += content + bytes(-len(content) % ALIGNMENT)
    return header + bytes(-len(header) % ALIGNMENT) + data


def floats(array: np.ndarray) -> Tensor:
    return F32, array.shape, array.astype("<f4").tobytes()


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def value(item: Any) -> bytes:
    """A type and a value: bool, int (uint32), float (float32), str, or a list of one of these."""
    kind, content = _value(item)
    return struct.pack("<I", kind) + content


def _value(item: Any) -> tuple[int, bytes]:
    if isinstance(item, bool):
        return 7, struct.pack("<?", item)
    if isinstance(item, int):
        return 4, struct.pack("<I", item)
    if isinstance(item, float):
        return 6, struct.pack("<f", item)
    if isinstance(item, str):
        return 8, string(item)
    return 9, _array(item)


def _array(items: Sequence[Any]) -> bytes:
    kinds, contents = zip(*map(_value, items), strict=True)
    return struct.pack("<IQ", kinds[0], len(items)) + b"".join(contents)
