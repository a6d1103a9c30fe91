"""Lines that tell a user about loading: progress, the limits chosen, a slow backend."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeAlias

Notify: TypeAlias = Callable[[str], None]


def to_standard_error(line: str) -> None:
    """Standard output belongs to results."""
    print(line, file=sys.stderr, flush=True)
