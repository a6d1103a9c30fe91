"""The texts that quality is measured on: those that ship with the package, or any file."""

from __future__ import annotations

import json
import lzma
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from vivace.core.errors import UsageError

HELD_OUT = "heldout.jsonl.xz"


@dataclass(frozen=True)
class TextFile:
    """A text that is encoded by itself."""

    path: str
    text: str

    @property
    def num_bytes(self) -> int:
        return len(self.text.encode())


def held_out_files() -> tuple[TextFile, ...]:
    """Files of Python's standard library that the bundled models never saw, by path; where they
    come from stands in `assets/heldout.json`."""
    compressed = (files("vivace") / "assets" / HELD_OUT).read_bytes()
    lines = lzma.decompress(compressed).decode().splitlines()
    return tuple(TextFile(**json.loads(line)) for line in lines)


def text_file(path: Path) -> TextFile:
    """A file of plain text.

    Raises:
        UsageError: it cannot be read, is not UTF-8, or is empty.
    """
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text; convert it first.") from None
    if not text:
        raise UsageError(f"{path} is empty; give a text to score.")
    return TextFile(str(path), text)
