"""How a command line that was run in this process ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """Attributes:
    code: the exit code.
    out: standard output.
    err: standard error.
    """

    code: int
    out: str
    err: str


Vivace = Callable[..., Result]
