"""The seam to other machines: what a row-parallel linear reduces through."""

from __future__ import annotations

from typing import Any, Protocol


class Collective(Protocol):
    """A group of ranks that hold parts of one model."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def all_reduce(self, tensor: Any) -> Any:
        """The sum of every rank's `tensor`, on every rank, in the same fixed order."""
        ...
