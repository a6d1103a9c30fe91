"""What a command shows: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Report = Callable[[int, int], None]

_PATIENCE_SECONDS = 1.0
_LINE_SECONDS = 5.0


def print_json(result: Any) -> None:
    """One JSON object on standard output."""
    print(json.dumps(result, ensure_ascii=False), flush=True)


def write(text: str) -> None:
    """Text on standard output, at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def notice(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def progress(what: str) -> Iterator[Report]:
    """Show on standard error what goes on, if it takes longer than a second.

    Yields report(done, total) for whoever can count; on a terminal a bar, elsewhere plain lines.
    """
    display = _Bar(what) if sys.stderr.isatty() else _Lines(what)
    timer = threading.Timer(_PATIENCE_SECONDS, display.start)
    timer.daemon = True
    timer.start()
    try:
        yield display.report
    finally:
        timer.cancel()
        timer.join()
        display.stop()


class _Lines:
    """A line at the start, then one every few seconds while there is something to count."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began = time.monotonic()
        self._next_line: float | None = None

    def start(self) -> None:
        notice(f"{self._what} ...")
        self._next_line = time.monotonic() + _LINE_SECONDS

    def report(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._next_line is None or now < self._next_line or not done:
            return
        self._next_line = now + _LINE_SECONDS
        left = (now - self._began) * (total - done) / done
        notice(f"{self._what}: {done} of {total}, about {left:.0f} s left")

    def stop(self) -> None:
        self._next_line = None


class _Bar:
    """A bar that goes away when the work is done. rich is imported only if it is shown."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._done, self._total = 0, 0
        self._bar: Any = None

    def start(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        bar = Progress(*_columns(), console=Console(stderr=True), transient=True)
        bar.add_task(self._what, total=self._total or None, completed=self._done)
        bar.start()
        self._bar = bar

    def report(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def _columns() -> tuple[Any, ...]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    counts = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    left = (TimeRemainingColumn(), TextColumn("left"))
    return (SpinnerColumn(), TextColumn("{task.description}"), *counts, *left)
