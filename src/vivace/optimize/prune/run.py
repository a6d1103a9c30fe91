"""`prune`: a checkpoint in, one with most of its weights at zero out, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vivace.backends.protocol import Backend
from vivace.core.errors import UsageError
from vivace.models.loader import role_shapes
from vivace.models.spec import ModelSpec
from vivace.optimize.artefact import PartialArtefact
from vivace.optimize.calibrate import TokenIds
from vivace.optimize.layer import LINEARS, WorkingLayer
from vivace.optimize.layerwise import (
    FloatModel,
    LayerByLayer,
    Made,
    Progress,
    calibration,
    check_runs,
    computed,
    open_floats,
)
from vivace.optimize.prune.methods import Method, method_named
from vivace.optimize.prune.pattern import Pattern

VERSION = 1


@dataclass(frozen=True)
class Job:
    """Attributes:
    model: as it was named.
    folder: where its files are.
    runs: calibration text, for methods that read any.
    """

    model: str
    folder: Path
    out: Path
    pattern: Pattern
    method: str
    backend: Backend
    runs: tuple[TokenIds, ...] = ()


def prune(job: Job, progress: Progress | None = None) -> Made:
    """Write the partial artefact. What a run of the same job left is not done again.

    The linears of the layers are pruned, each with inputs from everything pruned before it; the
    embedding and the head stay whole.

    Args:
        progress: called with the layers done, of how many.

    Raises:
        UsageError: the job does not fit the model, or the place is taken.
        CheckpointError: the model cannot be read.
    """
    method = method_named(job.method)
    model = open_floats(job.folder, "pruned")
    _check_widths(job.pattern, model.spec)
    if method.reads_text:
        check_runs(job.method, job.runs, model.spec)
    runs = job.runs if method.reads_text else ()
    recipe = {
        "version": VERSION,
        "model": job.model,
        "weights": model.identity(),
        "method": job.method,
        "sparsity": str(job.pattern),
        "calibration": calibration(runs),
        "computed": computed(job.backend),
    }
    artefact = PartialArtefact(job.out, len(model.spec.layers) + 1)
    artefact.open(recipe)
    config = model.checkpoint.config
    work = LayerByLayer(model, job.backend, artefact, config)
    work.run(lambda layer: prune_layer(layer, method, job.pattern), runs, progress)
    about = {"recipe": recipe, "sparsity": _sparsity(model, artefact)}
    artefact.complete(job.folder, config, about)
    return Made(artefact, about)


def prune_layer(layer: WorkingLayer, method: Method, pattern: Pattern) -> None:
    """Its linears in the order of the forward."""
    for name in LINEARS:
        gram = layer.statistics(name).gram if method.reads_text else None
        layer.replace(name, method.prune(layer.weights(name), gram, pattern))


def _sparsity(model: FloatModel, artefact: PartialArtefact) -> float:
    """The share of the linears' weights that are zero, counted from the files."""
    zeros, count = 0, 0
    for index in range(len(model.spec.layers)):
        file = artefact.read(index)
        for name in (n for role in LINEARS for n in model.names(f"layers.{index}.{role}")):
            weights = file.tensor(name).buffers["weight"]
            zeros += weights.size - int(np.count_nonzero(weights))
            count += weights.size
    return zeros / count


def _check_widths(pattern: Pattern, spec: ModelSpec) -> None:
    shapes = role_shapes(spec)
    for role in (f"layers.{i}.{name}" for i in range(len(spec.layers)) for name in LINEARS):
        width = shapes[role][0][1]
        if not pattern.fits(width):
            raise UsageError(f"{role} has {width} inputs, which {pattern} does not divide.")
