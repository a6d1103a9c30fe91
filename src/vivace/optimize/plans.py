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


@dataclass(frozen=True)
class TrainingPlan:
    """Attributes:
    steps: updates of the student.
    batch_tokens: that it reads for each.
    run_len: tokens that it reads at once.
    matrix_rate: the highest step of a matrix, in the norm that Muon gives it.
    vector_rate: the highest learning rate of embeddings and vectors.
    seed: chooses the order of the text.
    save_every: steps between two states that an interrupted run goes on from.
    """

    steps: int = 1000
    batch_tokens: int = 8192
    run_len: int = 512
    matrix_rate: float = 0.01
    vector_rate: float = 1e-3
    seed: int = 0
    save_every: int = 50


@dataclass(frozen=True)
class Shape:
    """What structured pruning leaves; None is all of it.

    Attributes:
        layers: layers to keep.
        hidden_size: channels of the hidden states to keep.
        mlp_size: neurons of each MLP to keep.
        heads: query heads of each layer to keep, equally many for each KV head.
        kv_heads: KV heads of each layer to keep, with their query heads.
    """

    layers: int | None = None
    hidden_size: int | None = None
    mlp_size: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
