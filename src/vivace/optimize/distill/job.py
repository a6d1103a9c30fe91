"""What distillation is told; costs no import of PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vivace.backends.protocol import DTypeName
from vivace.optimize.calibrate import TokenIds
from vivace.optimize.plans import TrainingPlan


@dataclass(frozen=True)
class DistillJob:
    """Attributes:
    teacher, student: folders.
    names: of both, as they were named.
    documents: text, in tokens that both have.
    temperature: of the softmax.
    dtype: what matrices are multiplied in; parameters are float32.
    """

    teacher: Path
    student: Path
    names: tuple[str, str]
    out: Path
    documents: Sequence[TokenIds]
    plan: TrainingPlan
    temperature: float
    dtype: DTypeName
