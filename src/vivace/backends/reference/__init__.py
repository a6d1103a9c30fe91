"""The oracle: every op composed of plain numpy steps."""

from __future__ import annotations

from vivace.backends.reference.backend import ReferenceBackend

__all__ = ["ReferenceBackend"]
