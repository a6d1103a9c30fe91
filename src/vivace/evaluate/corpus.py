"""The held-out text that every quality figure is made on, as it ships with the package."""

from __future__ import annotations

import json
import lzma
from dataclasses import dataclass
from importlib.resources import files

_HELD_OUT = "heldout.jsonl.xz"


@dataclass(frozen=True)
class HeldOutFile:
    """A file of Python's standard library that the bundled models never saw."""

    path: str
    text: str

    @property
    def num_bytes(self) -> int:
        return len(self.text.encode())


def held_out_files() -> tuple[HeldOutFile, ...]:
    """By path; where they come from stands in `assets/heldout.json`."""
    compressed = (files("vivace") / "assets" / _HELD_OUT).read_bytes()
    lines = lzma.decompress(compressed).decode().splitlines()
    return tuple(HeldOutFile(**json.loads(line)) for line in lines)
