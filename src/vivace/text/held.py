"""Text that may yet become something else."""

from __future__ import annotations

from collections.abc import Sequence


def num_held(text: str, marks: Sequence[str]) -> int:
    """The length of the longest end of `text` that one of the marks begins with."""
    longest = min(len(text), max(map(len, marks), default=0))
    for length in range(longest, 0, -1):
        end = text[-length:]
        if any(len(mark) > length and mark.startswith(end) for mark in marks):
            return length
    return 0
