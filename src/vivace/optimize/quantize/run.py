"""`quantize`: a checkpoint in, a smaller one out, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vivace.backends.protocol import Backend
from vivace.core.errors import UsageError
from vivace.formats.qtensor import Scheme
from vivace.optimize.artefact import PartialArtefact
from vivace.optimize.calibrate import TokenIds
from vivace.optimize.layer import WorkingLayer
from vivace.optimize.layerwise import (
    LayerByLayer,
    Made,
    Progress,
    calibration,
    check_runs,
    computed,
    open_floats,
)
from vivace.optimize.quantize.methods import method_named, quantize_layer
from vivace.optimize.quantize.recipe import Recipe
from vivace.optimize.quantize.schemes import schemes_of
from vivace.optimize.quantize.stored import quantization_config


@dataclass(frozen=True)
class Job:
    """Attributes:
    model: as it was named.
    folder: where its files are.
    scheme: for all layers, and exceptions, as `PrecisionPolicy.parse` takes them.
    runs: calibration text, for methods that read any.
    """

    model: str
    folder: Path
    out: Path
    scheme: str
    method: str
    backend: Backend
    runs: tuple[TokenIds, ...] = ()


def quantize(job: Job, progress: Progress | None = None) -> Made:
    """Write the partial artefact. What a run of the same job left is not done again.

    Args:
        progress: called with the layers done, of how many.

    Raises:
        UsageError: the job does not fit the model, or the place is taken.
        CheckpointError: the model cannot be read.
    """
    method = method_named(job.method)
    instead = ": round it when it is loaded, with --quantize"
    model = open_floats(job.folder, "quantized", instead)
    schemes = schemes_of(job.scheme, model.spec)
    if method.round is None and any(scheme.planes > 1 for scheme in schemes.values()):
        raise UsageError(f"Method {job.method} makes no nested schemes: take another for them.")
    if method.reads_text:
        check_runs(job.method, job.runs, model.spec)
    runs = job.runs if method.reads_text else ()
    recipe = Recipe(
        model=job.model,
        weights=model.identity(),
        scheme=job.scheme,
        method=job.method,
        calibration=calibration(runs),
        computed=computed(job.backend),
    ).as_json()
    artefact = PartialArtefact(job.out, len(model.spec.layers) + 1)
    artefact.open(recipe)
    modules = {
        source.name.removesuffix(".weight"): scheme
        for role, scheme in schemes.items()
        for source in model.plan[role]
    }
    config = {**model.checkpoint.config, "quantization_config": quantization_config(modules)}
    bits = _grouped_activation_bits(schemes)
    work = LayerByLayer(model, job.backend, artefact, config, bits)

    def change(layer: WorkingLayer) -> None:
        quantize_layer(layer, method, _own(schemes, layer))

    work.run(change, runs, progress)
    about = {"recipe": recipe, "activation_bits": bits}
    artefact.complete(job.folder, config, about)
    return Made(artefact, about)


def _own(schemes: Mapping[str, Scheme], layer: WorkingLayer) -> dict[str, Scheme]:
    """Those of a layer's linears."""
    prefix = layer.role("")
    return {
        role.removeprefix(prefix): scheme
        for role, scheme in schemes.items()
        if role.startswith(prefix)
    }


def _grouped_activation_bits(schemes: Mapping[str, Scheme]) -> int | None:
    """What vivace rounds activations to beside int4: not said by the layout."""
    return next((scheme.activation_bits for scheme in schemes.values() if scheme.bits == 4), None)
