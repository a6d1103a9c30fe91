"""What was done to a model: written into the artefact, and what an interrupted run goes on by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

VERSION = 1


@dataclass(frozen=True)
class Recipe:
    """Attributes:
    model: as it was named.
    weights: tells that model's files from others.
    scheme: as it was asked for.
    calibration: which text was read, and how much; None where none was.
    computed: on which backend, in which numbers.
    """

    model: str
    weights: str
    scheme: str
    method: str
    calibration: Mapping[str, Any] | None
    computed: str

    def as_json(self) -> dict[str, Any]:
        return {"version": VERSION, **asdict(self)}
