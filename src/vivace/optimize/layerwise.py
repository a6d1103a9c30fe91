"""Through a checkpoint layer by layer, into an artefact: what the ways to make a model smaller
without training it share. Memory stays near that of one layer in floats and the hidden states of
the calibration text; what an interrupted run has done is not done again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from vivace.backends.protocol import Backend
from vivace.core.errors import UsageError
from vivace.formats.checkpoint import Checkpoint, open_checkpoint
from vivace.formats.identity import file_identity
from vivace.formats.qtensor import Array, QTensor
from vivace.formats.quantized.checkpoint import matrices_of
from vivace.formats.quantized.config import method_of
from vivace.formats.safetensors import FLOAT_DTYPES
from vivace.models.loader import checked_plan, model_spec
from vivace.models.spec import MLPSpec, ModelSpec
from vivace.models.weights import Plan
from vivace.optimize.artefact import PartialArtefact
from vivace.optimize.calibrate import TokenIds, digest
from vivace.optimize.layer import Edited, WorkingLayer
from vivace.optimize.states import HiddenStates

Progress: TypeAlias = Callable[[int, int], None]
Change: TypeAlias = Callable[[WorkingLayer], None]


@dataclass(frozen=True)
class Made:
    """What came out: a folder that loads, not yet in its place.

    Attributes:
        about: for vivace.json.
    """

    artefact: PartialArtefact
    about: dict[str, Any]


@dataclass(frozen=True)
class FloatModel:
    """A checkpoint of dense layers, all of it floats."""

    checkpoint: Checkpoint
    spec: ModelSpec
    plan: Plan

    def layer(
        self, index: int, backend: Backend, states: HiddenStates | None = None
    ) -> WorkingLayer:
        edited = Edited(self.checkpoint.tensors)
        return WorkingLayer(index, self.spec, self.plan, backend, edited, states)

    def embedded(self, backend: Backend, runs: Sequence[TokenIds]) -> HiddenStates:
        """What goes into the first layer."""
        (source,) = self.plan["embedding"]
        table = self.checkpoint.tensors.get(source.name)
        return HiddenStates.embedded(backend, table, runs, self.spec)

    def stored(self, name: str) -> Array:
        """A tensor as it stands in the checkpoint."""
        return np.ascontiguousarray(self.checkpoint.tensors.get(name).buffers["weight"])

    def names(self, role: str) -> list[str]:
        return [source.name for source in self.plan[role]]

    def identity(self) -> str:
        """Tells this model's files from others."""
        paths = self.checkpoint.tensors.paths
        identities = (file_identity(path.resolve()) for path in paths)
        return hashlib.sha256("\n".join(identities).encode()).hexdigest()[:16]


def open_floats(folder: Path, done: str, instead: str = "") -> FloatModel:
    """
    Args:
        done: to the model, in the words of an error: "quantized".
        instead: what helps where that cannot be.

    Raises:
        UsageError: that cannot be done to such a model yet.
        CheckpointError: it cannot be read.
    """
    checkpoint = open_checkpoint(folder)
    spec = model_spec(checkpoint.config)
    plan = checked_plan(spec, checkpoint)
    if not all(isinstance(layer.mlp, MLPSpec) for layer in spec.layers):
        raise UsageError(f"Mixtures of experts cannot be {done} yet{instead}.")
    sources = [source for sources in plan.values() for source in sources]
    if any(source.transposed for source in sources):
        raise UsageError(
            f"Models of type {spec.family} store their matrices transposed, and cannot be {done} "
            f"yet{instead}."
        )
    check_floats(checkpoint, plan)
    return FloatModel(checkpoint, spec, plan)


def check_floats(checkpoint: Checkpoint, plan: Plan) -> None:
    """Raises UsageError where a tensor is no floats any more."""
    names = (source.name for sources in plan.values() for source in sources)
    kinds = {checkpoint.tensors.dtype(name) for name in names} - set(FLOAT_DTYPES)
    if kinds:
        raise UsageError(
            f"The model is quantized already ({', '.join(sorted(kinds))}); give the original one."
        )


def calibration(runs: Sequence[TokenIds]) -> dict[str, Any] | None:
    """Which text is read, for a recipe."""
    if not runs:
        return None
    return {"runs": len(runs), "tokens": sum(map(len, runs)), "digest": digest(runs)}


def computed(backend: Backend) -> str:
    """On which backend, in which numbers, for a recipe."""
    return f"{backend.name} {backend.dtype} {backend.numerics}"


def check_runs(method: str, runs: Sequence[TokenIds], spec: ModelSpec) -> None:
    """Raises UsageError where calibration text is missing or too long."""
    if not runs:
        raise UsageError(f"Method {method} reads calibration text; give some.")
    if len(runs[0]) > spec.max_model_len:
        raise UsageError(
            f"Calibration runs of {len(runs[0])} tokens are longer than the model's "
            f"{spec.max_model_len}; give a smaller --sample-len."
        )


@dataclass(frozen=True)
class LayerByLayer:
    """One layer after the other is changed and written, with inputs from those before it as they
    are stored.

    Attributes:
        config: of the result.
        activation_bits: what the result rounds activations to beside grouped integers.
    """

    model: FloatModel
    backend: Backend
    artefact: PartialArtefact
    config: Mapping[str, Any]
    activation_bits: int | None = None

    def run(self, change: Change, runs: Sequence[TokenIds], progress: Progress | None) -> None:
        """
        Args:
            change: one layer, in place.
            runs: calibration text; none where `change` looks at no inputs.
        """
        states = self.model.embedded(self.backend, runs) if runs else None
        count = len(self.model.spec.layers)
        for index in range(count):
            self._layer(index, states, change)
            self.model.checkpoint.tensors.release()
            if progress is not None:
                progress(index + 1, count)
        self.artefact.write(count, self._others())

    def _layer(self, index: int, states: HiddenStates | None, change: Change) -> None:
        layer = self.model.layer(index, self.backend, states)
        if not self.artefact.has(index):
            change(layer)
            self.artefact.write_finer(index, _together(layer.finer))
            self.artefact.write(index, self._arrays(layer))
        if states is not None:
            layer.tensors.changed.update(self._stored(index))
            layer.advance()

    def _others(self) -> dict[str, Array]:
        """What is outside of the layers, as it was."""
        roles = [role for role in self.model.plan if not role.startswith("layers.")]
        names = [name for role in roles for name in self.model.names(role)]
        return {name: self.model.stored(name) for name in names}

    def _arrays(self, layer: WorkingLayer) -> dict[str, Array]:
        """A layer's tensors as they are stored: in their own float type where they are floats."""
        arrays: dict[str, Array] = {}
        roles = [role for role in self.model.plan if role.startswith(layer.role(""))]
        for name in (name for role in roles for name in self.model.names(role)):
            if name in layer.final:
                arrays |= layer.final[name]
            elif name in layer.tensors.changed:
                changed = layer.tensors.changed[name].to_float32()
                arrays[name] = changed.astype(self.model.stored(name).dtype)
            else:
                arrays[name] = self.model.stored(name)
        return arrays

    def _stored(self, index: int) -> dict[str, QTensor]:
        """A layer that is done, as it will be loaded."""
        file = self.artefact.read(index)
        if method_of(self.config) is None:
            return {name: file.tensor(name) for name in file}
        matrices = matrices_of(dict.fromkeys(file, file), self.config, self.activation_bits)
        return {name: matrix.tensor(name) for name, matrix in matrices.items()}


def _together(parts: Mapping[str, Mapping[str, Array]]) -> dict[str, Array]:
    return {name: array for part in parts.values() for name, array in part.items()}
