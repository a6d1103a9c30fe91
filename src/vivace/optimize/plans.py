"""What making a model smaller can be told; a plan costs nothing to import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CalibrationPlan:
    """Attributes:
    samples: runs of text that are read.
    sample_len: tokens of each.
    seed: chooses the runs.
    """

    samples: int = 128
    sample_len: int = 512
    seed: int = 0


@dataclass(frozen=True)
class EvidencePlan:
    """Attributes:
    eval_text: a file of text to compare both models on; None is the held-out text that ships.
    eval_windows: runs of that text that are scored, at even distances; 0 measures nothing.
    """

    eval_text: Path | None = None
    eval_windows: int = 32
