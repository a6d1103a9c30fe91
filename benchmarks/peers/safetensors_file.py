"""Reading a bfloat16 safetensors file with numpy alone: every peer's environment has that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class SafetensorsFile:
    """The tensors of one file, in its order."""

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        self._tensors = header
        self._data = np.memmap(path, np.uint8, "r", offset=8 + length)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def float32(self, name: str) -> NDArray[np.float32]:
        about = self._tensors[name]
        start, end = about["data_offsets"]
        words = self._data[start:end].view(np.uint16).astype(np.uint32)
        return (words << 16).view(np.float32).reshape(about["shape"])
