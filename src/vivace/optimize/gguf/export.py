"""`export`: a checkpoint in, one GGUF file out, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from vivace.backends.protocol import Backend
from vivace.core.errors import UsageError
from vivace.formats.checkpoint import open_checkpoint
from vivace.formats.gguf.blocks import dequantize
from vivace.formats.gguf.writer import PartialFile
from vivace.formats.qtensor import QTensor
from vivace.models.loader import WeightReader, checked_plan, model_spec
from vivace.models.spec import MLPSpec
from vivace.models.weights import Source
from vivace.optimize.calibrate import TokenIds
from vivace.optimize.gguf.contents import contents_of
from vivace.optimize.gguf.mixtures import file_type_named
from vivace.optimize.gguf.rounding import Inputs, to_rows
from vivace.optimize.gguf.targets import Target, halves, neighbours
from vivace.optimize.layer import LINEARS, WorkingLayer
from vivace.optimize.layerwise import (
    FloatModel,
    calibration,
    check_floats,
    check_runs,
    computed,
)
from vivace.optimize.observe import Statistics
from vivace.optimize.quantize.recipe import Recipe
from vivace.optimize.states import HiddenStates

Progress: TypeAlias = Callable[[int, int], None]

METHODS = ("search", "importance", "gptq")
_AT_ONCE = 2**24  # values of a table that are rounded together


@dataclass(frozen=True)
class ExportJob:
    """Attributes:
    model: as it was named.
    folder: where its files are, or its GGUF file.
    file_type: of `FILE_TYPES`.
    method: of `METHODS`.
    runs: calibration text, where it is read.
    """

    model: str
    folder: Path
    out: Path
    file_type: str
    method: str
    backend: Backend
    runs: tuple[TokenIds, ...] = ()


@dataclass(frozen=True)
class Exported:
    """A file that loads, not yet in its place, and what was done."""

    file: PartialFile
    recipe: dict[str, Any]


def reads_text(file_type: str, method: str) -> bool:
    """Whether calibration text is needed.

    Raises:
        UsageError: there is no such type or method.
    """
    if method not in METHODS:
        raise UsageError(f"There is no method {method!r}; choose among {', '.join(METHODS)}.")
    return not file_type_named(file_type).is_float and method != "search"


def export(job: ExportJob, progress: Progress | None = None) -> Exported:
    """Write the file, not yet in its place. What a run of the same job left is not done again.

    Memory stays near that of one layer in floats and the hidden states of the calibration text.

    Args:
        progress: called with the parts done, of how many: layers, and what is outside of them.

    Raises:
        UsageError: the model does not fit into such a file, or the place is taken.
        CheckpointError: the model cannot be read.
    """
    checkpoint, file_type = open_checkpoint(job.folder), file_type_named(job.file_type)
    spec = model_spec(checkpoint.config)
    model = FloatModel(checkpoint, spec, checked_plan(spec, checkpoint))
    reads = reads_text(job.file_type, job.method)
    _check(job, model)
    recipe = _recipe(job, model, job.runs if reads else ()).as_json()
    contents = contents_of(job.folder, checkpoint, spec, model.plan, file_type)
    file = PartialFile(job.out, contents.metadata(recipe), contents.tensors)
    parts = len(spec.layers) + 1
    done = file.open(parts)
    if done < parts:
        for name, values in contents.extra.items():
            file.write(name, values)
        work = _Work(job, model, file, contents.targets, reads)
        for part, _ in enumerate(work.parts(done), 1):
            file.mark(max(part, done))
            if progress is not None:
                progress(part, parts)
    file.complete()
    return Exported(file, recipe)


@dataclass(frozen=True)
class _Work:
    job: ExportJob
    model: FloatModel
    file: PartialFile
    targets: tuple[Target, ...]
    reads: bool

    def parts(self, done: int) -> Iterator[None]:
        """One layer after the other, with inputs from those before it as they are stored; then
        what is outside of them. So many that come first are written already."""
        backend = self.job.backend
        states = self.model.embedded(backend, self.job.runs) if self.reads else None
        for index in range(len(self.model.spec.layers)):
            layer = self.model.layer(index, backend, states)
            if index >= done:
                self._write_layer(layer)
            if states is not None:
                for target in self._linears(layer):
                    layer.tensors.changed.update(self._stored(target))
                layer.advance()
            self.model.checkpoint.tensors.release()
            yield
        self._write_others(states)
        yield

    def _write_layer(self, layer: WorkingLayer) -> None:
        if self.reads:
            for name in LINEARS:
                seen = layer.statistics(name)
                inputs = Inputs(seen.gram, self.job.method == "gptq")
                for target in self._of_role(layer.role(name)):
                    self._write(target, inputs)
                    layer.tensors.changed.update(self._stored(target))
        written = self._linears(layer) if self.reads else ()
        for target in self.targets:
            if target.role.startswith(layer.role("")) and target not in written:
                self._write(target)

    def _write_others(self, states: HiddenStates | None) -> None:
        """The head weighs errors by its inputs; making up for them in other columns would cost a
        table that is tied to it more than it gains."""
        head = "embedding" if self.model.spec.tied_embeddings else "head"
        inputs = None if states is None else Inputs(self._head_inputs(states).gram, spreads=False)
        for target in self.targets:
            if not target.role.startswith("layers."):
                self._write(target, inputs if target.role == head else None)

    def _write(self, target: Target, inputs: Inputs | None = None) -> None:
        """In slabs of rows where rows have nothing to do with each other."""
        whole, start = target.heads or (inputs is not None and inputs.spreads), 0
        for source in target.sources:
            matrix = self._array(source)
            step = len(matrix) if whole else max(_AT_ONCE // matrix.shape[1], 1)
            for first in range(0, len(matrix), step):
                values = matrix[first : first + step].astype(np.float32)
                rows = to_rows(values + np.float32(target.offset), target.kind, inputs)
                if target.heads:
                    rows = neighbours(rows, target.heads)
                self.file.write(target.tensor.name, rows, start)
                start += rows.nbytes

    def _stored(self, target: Target) -> dict[str, QTensor]:
        """A linear that was written, as it will be read."""
        kind, (source,) = target.kind, target.sources
        rows = self.file.read(target.tensor.name).reshape(source.shape[0], -1)
        if target.heads:
            rows = halves(rows, target.heads)
        values = rows.view(kind.block) if kind.decode is None else dequantize(rows, kind)
        return {source.name: QTensor.from_array(source.name, values)}

    def _linears(self, layer: WorkingLayer) -> tuple[Target, ...]:
        return tuple(each for name in LINEARS for each in self._of_role(layer.role(name)))

    def _of_role(self, role: str) -> Iterator[Target]:
        return (target for target in self.targets if target.role == role)

    def _array(self, source: Source) -> Any:
        """[out, in]; each value of a vector is a row."""
        array = source.view(self.model.checkpoint.tensors.get(source.name)).buffers["weight"]
        return array if array.ndim == 2 else array[:, None]

    def _head_inputs(self, states: HiddenStates) -> Statistics:
        """Of what goes into the head, after all layers."""
        spec, tensors = self.model.spec, self.model.checkpoint.tensors
        reader = WeightReader(self.model.plan, tensors, self.job.backend, spec)
        norm, seen = reader.norm("norm"), Statistics.of_width(spec.hidden_size)
        last = states.through(spec.layers[-1], spec.kv_groups)
        for x in last.outputs(lambda ops, hidden: ops.norm(hidden, norm)):
            seen.add(x)
        return seen


def _recipe(job: ExportJob, model: FloatModel, runs: tuple[TokenIds, ...]) -> Recipe:
    return Recipe(
        model=job.model,
        weights=model.identity(),
        scheme=job.file_type,
        method=job.method,
        calibration=calibration(runs),
        computed=computed(job.backend),
    )


def _check(job: ExportJob, model: FloatModel) -> None:
    """Raises UsageError for what cannot be exported."""
    check_floats(model.checkpoint, model.plan)
    if not reads_text(job.file_type, job.method):
        return
    if not all(isinstance(layer.mlp, MLPSpec) for layer in model.spec.layers):
        raise UsageError("Mixtures of experts are not calibrated yet; give --method search.")
    check_runs(job.method, job.runs, model.spec)
