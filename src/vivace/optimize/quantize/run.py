"""`quantize`: a checkpoint in, a smaller one out, layer by layer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from vivace.backends.protocol import Backend
from vivace.core.errors import UsageError
from vivace.formats.checkpoint import Checkpoint, open_checkpoint
from vivace.formats.identity import file_identity
from vivace.formats.qtensor import Array, QTensor, Scheme
from vivace.formats.quantized.checkpoint import matrices_of
from vivace.formats.safetensors import FLOAT_DTYPES
from vivace.models.loader import checked_plan, model_spec
from vivace.models.spec import MLPSpec, ModelSpec
from vivace.models.weights import Plan
from vivace.optimize.calibrate import TokenIds, digest
from vivace.optimize.quantize.artefact import PartialArtefact
from vivace.optimize.quantize.layer import Edited, WorkingLayer
from vivace.optimize.quantize.methods import Method, method_named, quantize_layer
from vivace.optimize.quantize.recipe import Recipe
from vivace.optimize.quantize.schemes import schemes_of
from vivace.optimize.quantize.stored import as_arrays, quantization_config
from vivace.optimize.states import HiddenStates

Progress: TypeAlias = Callable[[int, int], None]


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


@dataclass(frozen=True)
class Quantized:
    """What came out: a folder that loads, not yet in its place.

    Attributes:
        about: for vivace.json.
    """

    artefact: PartialArtefact
    about: dict[str, Any]


def quantize(job: Job, progress: Progress | None = None) -> Quantized:
    """Write the partial artefact. What a run of the same job left is not done again.

    Memory stays near that of one layer in floats and the hidden states of the calibration text.

    Args:
        progress: called with the layers done, of how many.

    Raises:
        UsageError: the job does not fit the model, or the place is taken.
        CheckpointError: the model cannot be read.
    """
    method, checkpoint = method_named(job.method), open_checkpoint(job.folder)
    spec = model_spec(checkpoint.config)
    plan = checked_plan(spec, checkpoint)
    _check_supported(spec, checkpoint, plan)
    schemes = schemes_of(job.scheme, spec)
    if method.reads_text and not job.runs:
        raise UsageError(f"Method {job.method} reads calibration text; give some.")
    if job.runs and len(job.runs[0]) > spec.max_model_len:
        raise UsageError(
            f"Calibration runs of {len(job.runs[0])} tokens are longer than the model's "
            f"{spec.max_model_len}; give a smaller --sample-len."
        )
    recipe = _recipe(job, checkpoint, method).as_json()
    artefact = PartialArtefact(job.out, len(spec.layers) + 1)
    artefact.open(recipe)
    modules = {
        source.name.removesuffix(".weight"): scheme
        for role, scheme in schemes.items()
        for source in plan[role]
    }
    config = {**checkpoint.config, "quantization_config": quantization_config(modules)}
    bits = _grouped_activation_bits(schemes)
    work = _Work(spec, plan, checkpoint, job.backend, artefact, config, bits)
    for done, _ in enumerate(work.layers(method, schemes, job.runs), 1):
        if progress is not None:
            progress(done, len(spec.layers))
    artefact.write(len(spec.layers), work.others())
    about = {"recipe": recipe, "activation_bits": bits}
    artefact.complete(job.folder, config, about)
    return Quantized(artefact, about)


@dataclass(frozen=True)
class _Work:
    spec: ModelSpec
    plan: Plan
    checkpoint: Checkpoint
    backend: Backend
    artefact: PartialArtefact
    config: Mapping[str, Any]
    activation_bits: int | None

    def layers(
        self, method: Method, schemes: Mapping[str, Scheme], runs: tuple[TokenIds, ...]
    ) -> Iterator[None]:
        """One layer after the other, with inputs from those before it as they are stored."""
        states = self._embedded(runs) if method.reads_text else None
        for index in range(len(self.spec.layers)):
            layer = self._layer(index, states)
            if not self.artefact.has(index):
                prefix = f"layers.{index}."
                own = {
                    r.removeprefix(prefix): s for r, s in schemes.items() if r.startswith(prefix)
                }
                quantize_layer(layer, method, own)
                self.artefact.write_finer(index, _finer_arrays(layer))
                self.artefact.write(index, self._arrays(layer))
            if states is not None:
                layer.tensors.changed.update(self._stored(index))
                layer.advance()
            self.checkpoint.tensors.release()
            yield

    def others(self) -> dict[str, Array]:
        """What is outside of the layers, as it was."""
        roles = [role for role in self.plan if not role.startswith("layers.")]
        return {name: self._unchanged(name) for role in roles for name in self._names(role)}

    def _layer(self, index: int, states: HiddenStates | None) -> WorkingLayer:
        tensors = Edited(self.checkpoint.tensors)
        return WorkingLayer(index, self.spec, self.plan, self.backend, tensors, states)

    def _embedded(self, runs: tuple[TokenIds, ...]) -> HiddenStates:
        (source,) = self.plan["embedding"]
        table = self.checkpoint.tensors.get(source.name)
        return HiddenStates.embedded(self.backend, table, runs, self.spec)

    def _arrays(self, layer: WorkingLayer) -> dict[str, Array]:
        """A layer's tensors as they are stored: in their own float type where they are floats."""
        arrays: dict[str, Array] = {}
        for role in self.plan:
            if not role.startswith(layer.role("")):
                continue
            for name in self._names(role):
                rounded = layer.rounded.get(name)
                if rounded is not None:
                    arrays |= as_arrays(name, rounded)
                elif name in layer.tensors.changed:
                    changed = layer.tensors.changed[name].to_float32()
                    arrays[name] = changed.astype(self._unchanged(name).dtype)
                else:
                    arrays[name] = self._unchanged(name)
        return arrays

    def _stored(self, index: int) -> dict[str, QTensor]:
        """A layer that is done, as it will be loaded."""
        file = self.artefact.read(index)
        matrices = matrices_of(dict.fromkeys(file, file), self.config, self.activation_bits)
        return {name: matrix.tensor(name) for name, matrix in matrices.items()}

    def _names(self, role: str) -> list[str]:
        return [source.name for source in self.plan[role]]

    def _unchanged(self, name: str) -> Array:
        return np.ascontiguousarray(self.checkpoint.tensors.get(name).buffers["weight"])


def _finer_arrays(layer: WorkingLayer) -> dict[str, Array]:
    parts = (as_arrays(name, finer) for name, finer in layer.finer.items())
    return {name: array for part in parts for name, array in part.items()}


def _grouped_activation_bits(schemes: Mapping[str, Scheme]) -> int | None:
    """What vivace rounds activations to beside int4: not said by the layout."""
    return next((scheme.activation_bits for scheme in schemes.values() if scheme.bits == 4), None)


def _recipe(job: Job, checkpoint: Checkpoint, method: Method) -> Recipe:
    identities = (file_identity(path.resolve()) for path in checkpoint.tensors.paths)
    calibration = {
        "runs": len(job.runs),
        "tokens": sum(map(len, job.runs)),
        "digest": digest(job.runs) if job.runs else None,
    }
    backend = job.backend
    return Recipe(
        model=job.model,
        weights=hashlib.sha256("\n".join(identities).encode()).hexdigest()[:16],
        scheme=job.scheme,
        method=job.method,
        calibration=calibration if method.reads_text else None,
        computed=f"{backend.name} {backend.dtype} {backend.numerics}",
    )


def _check_supported(spec: ModelSpec, checkpoint: Checkpoint, plan: Plan) -> None:
    """Raises UsageError for what cannot be quantized yet."""
    if not all(isinstance(layer.mlp, MLPSpec) for layer in spec.layers):
        raise UsageError(
            "Mixtures of experts cannot be quantized yet: round them when they are loaded, with "
            "--quantize."
        )
    sources = [source for sources in plan.values() for source in sources]
    if any(source.transposed for source in sources):
        raise UsageError(
            f"Models of type {spec.family} store their matrices transposed, which no layout of "
            "quantized ones has: round them when they are loaded, with --quantize."
        )
    kinds = {checkpoint.tensors.dtype(source.name) for source in sources} - set(FLOAT_DTYPES)
    if kinds:
        raise UsageError(
            f"The model is quantized already ({', '.join(sorted(kinds))}); give the original one."
        )
