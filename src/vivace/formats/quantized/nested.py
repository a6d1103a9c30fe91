"""Matrices of two precisions in one checkpoint: what everybody loads, in 4 bits, and beside it what
that lacks, in files of their own under the same names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vivace.core.errors import CheckpointError
from vivace.formats.made import Made
from vivace.formats.qtensor import FLOAT32, Array, QTensor
from vivace.formats.quantized.matrices import PackedMatrix
from vivace.formats.safetensors import Entry
from vivace.formats.schemes import nested

FINER_INDEX = "finer.safetensors.index.json"


@dataclass(frozen=True, eq=False)
class NestedMatrix:
    """The sum of two matrices in one scheme: a tensor file of one tensor.

    Attributes:
        first: the matrix in 4 bits.
        finer: what it lacks.
    """

    first: PackedMatrix
    finer: PackedMatrix

    @property
    def path(self) -> Path:
        return self.finer.path

    def entry(self, name: str) -> Entry:
        first, finer = (plane.entry(name) for plane in (self.first, self.finer))
        return Entry("int8", first.shape, 0, first.nbytes + finer.nbytes)

    def tensor(self, name: str) -> QTensor:
        """In the nested scheme where both planes are what backends multiply by, else in floats."""
        first, finer = (plane.tensor(name) for plane in (self.first, self.finer))
        if first.scheme.is_float or first.scheme != finer.scheme:
            return QTensor(name, first.shape, FLOAT32, Made({"weight": lambda: _sum(first, finer)}))
        makers = {key: _beside(first, finer, key) for key in first.buffers}
        return QTensor(name, first.shape, nested(first.scheme), Made(makers))

    def release(self) -> None:
        self.first.release()
        self.finer.release()


def with_finer(
    matrices: Mapping[str, object], finer: Mapping[str, object]
) -> dict[str, NestedMatrix]:
    """The matrices that have a finer part, with it.

    Raises:
        CheckpointError: a finer part belongs to no matrix in 4 bits.
    """
    return {name: _nested(name, matrices.get(name), part) for name, part in finer.items()}


def _nested(name: str, first: object, finer: object) -> NestedMatrix:
    if isinstance(first, PackedMatrix) and isinstance(finer, PackedMatrix):
        return NestedMatrix(first, finer)
    raise CheckpointError(f"{FINER_INDEX} has a part of {name} that fits no matrix of 4 bits.")


def _beside(first: QTensor, finer: QTensor, key: str) -> Callable[[], Array]:
    return lambda: np.concatenate([first.buffers[key], finer.buffers[key]], axis=1)


def _sum(first: QTensor, finer: QTensor) -> Array:
    values: Array = first.to_float32() + finer.to_float32()
    return values
