"""What the measuring commands leave: one JSON object or a small table, and a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vivace.cli.console import notice, print_json
from vivace.core.errors import UsageError

PICTURES = (".png", ".svg")


@dataclass(frozen=True)
class Output:
    """Attributes:
    json: print one JSON object on standard output.
    plot: draw what was measured into this .png or .svg file.
    """

    json: bool = False
    plot: Path | None = None

    def __post_init__(self) -> None:
        """Before anything is measured: a picture can be drawn, and written there.

        Raises:
            UsageError: it cannot.
        """
        if self.plot is None:
            return
        if self.plot.suffix not in PICTURES:
            raise UsageError(f"--plot writes {' or '.join(PICTURES)} files, not {self.plot.name}.")
        if find_spec("matplotlib") is None:
            raise UsageError("--plot needs matplotlib: install it with pip install 'vivace[plot]'.")
        check_folder(self.plot)

    def draw(self, draw_to: Callable[[Path], None]) -> None:
        """Draw the picture, if one was asked for, and say so."""
        if self.plot is None:
            return
        draw_to(self.plot)
        notice(f"Drew {self.plot}.")

    def show(self, result: Mapping[str, Any]) -> None:
        """The result on standard output; for people without lists and what was not measured."""
        if self.json:
            print_json(result)
            return
        plain = {
            name: value
            for name, value in result.items()
            if value is not None and not isinstance(value, list | dict)
        }
        print_table([(name.replace("_", " "), readable(value)) for name, value in plain.items()])


def check_folder(path: Path) -> None:
    """Raises UsageError: there is no folder to write the file into."""
    if not path.parent.is_dir():
        raise UsageError(f"{path} cannot be written: make the folder {path.parent} first.")


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need be; all but the first are numbers, to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]))


def readable(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if type(value) is int else str(value)
