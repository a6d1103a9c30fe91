"""Structured pruning: a smaller model of the same family, whose shapes are smaller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vivace.backends.protocol import Backend
from vivace.core.errors import UsageError
from vivace.formats.qtensor import Array
from vivace.models.families import FAMILIES
from vivace.models.loader import model_spec
from vivace.models.spec import ModelSpec
from vivace.models.weights import Plan, weight_plan
from vivace.optimize.artefact import PartialArtefact
from vivace.optimize.calibrate import TokenIds
from vivace.optimize.layerwise import (
    FloatModel,
    Made,
    Progress,
    calibration,
    check_runs,
    computed,
    open_floats,
)
from vivace.optimize.observe import Floats
from vivace.optimize.plans import Shape
from vivace.optimize.prune.cut import (
    Kept,
    KeptLayer,
    RoleCut,
    cut_config,
    cut_parts,
    cut_spec,
    dense,
    regained,
    role_cuts,
)
from vivace.optimize.prune.importance import (
    LayerImportance,
    measure,
    most_important,
)
from vivace.optimize.states import HiddenStates

VERSION = 1


@dataclass(frozen=True)
class StructureJob:
    """Attributes:
    model: as it was named.
    folder: where its files are.
    shape: what is left.
    runs: calibration text.
    """

    model: str
    folder: Path
    out: Path
    shape: Shape
    backend: Backend
    runs: tuple[TokenIds, ...]


def prune_structure(job: StructureJob, progress: Progress | None = None) -> Made:
    """Write the partial artefact: an ordinary checkpoint with smaller shapes.

    Raises:
        UsageError: the job does not fit the model, or the place is taken.
        CheckpointError: the model cannot be read.
    """
    model = open_floats(job.folder, "pruned")
    check_shape(job.shape, model.spec)
    check_runs("structure", job.runs, model.spec)
    recipe = {
        "version": VERSION,
        "model": job.model,
        "weights": model.identity(),
        "method": "structure",
        "shape": asdict(job.shape),
        "calibration": calibration(job.runs),
        "computed": computed(job.backend),
    }
    layers = job.shape.layers or len(model.spec.layers)
    artefact = PartialArtefact(job.out, layers + 1)
    artefact.open(recipe)
    kept = choose(model, job, progress)
    work = _Cutting(model, kept, artefact)
    work.write()
    about = {"recipe": recipe, "kept_layers": [layer.index for layer in kept.layers]}
    artefact.complete(job.folder, work.config, about)
    return Made(artefact, about)


def check_shape(shape: Shape, spec: ModelSpec) -> None:
    """Raises UsageError: a part is not there to be kept, or heads do not divide evenly."""
    layer = spec.layers[0]
    attention = layer.attention
    has = {
        "layers": len(spec.layers),
        "hidden_size": spec.hidden_size,
        "mlp_size": dense(layer).intermediate_size,
        "heads": attention.num_heads,
        "kv_heads": attention.num_kv_heads,
    }
    for name, wanted in asdict(shape).items():
        if wanted is not None and wanted > has[name]:
            flag = name.replace("_", "-")
            raise UsageError(f"The model has {flag} {has[name]}; --{flag} cannot be {wanted}.")
    heads, kv_heads = _heads(shape, spec)
    if heads % kv_heads or heads // kv_heads > attention.num_heads // attention.num_kv_heads:
        raise UsageError(
            f"{heads} heads cannot share {kv_heads} KV heads here: each has at most "
            f"{attention.num_heads // attention.num_kv_heads}, all equally many."
        )
    if heads != attention.num_heads and spec.qk_norm == "full":
        raise UsageError("This model's queries are normed over all heads; keep all of them.")
    if (shape.hidden_size or spec.hidden_size) != spec.hidden_size and spec.norm.kind != "rms":
        raise UsageError("Only models with RMSNorm can lose hidden size.")


def choose(model: FloatModel, job: StructureJob, progress: Progress | None = None) -> Kept:
    """The most important parts, measured on the whole model."""
    spec, shape = model.spec, job.shape
    states = model.embedded(job.backend, job.runs)
    found = []
    for index in range(len(spec.layers)):
        found.append(measure(model.layer(index, job.backend, states)))
        model.checkpoint.tensors.release()
        if progress is not None:
            progress(index + 1, len(spec.layers))
    channels = sum((each.channels for each in found), _read_by_the_head(model, states))
    influences = np.asarray([each.influence for each in found])
    indices = most_important(influences, shape.layers or len(spec.layers)).tolist()
    return Kept(
        most_important(channels, shape.hidden_size or spec.hidden_size),
        tuple(_choose_layer(spec, index, found[index], shape) for index in indices),
    )


def _choose_layer(
    spec: ModelSpec, index: int, importance: LayerImportance, shape: Shape
) -> KeptLayer:
    """KV heads by what their queries' heads do together, then the same number of heads of each."""
    heads, kv_heads = _heads(shape, spec)
    by_kv_head = importance.heads.reshape(spec.layers[index].attention.num_kv_heads, -1)
    each = heads // kv_heads
    best = -np.sort(-by_kv_head, axis=1)[:, :each].sum(axis=1)
    groups = most_important(best, kv_heads)
    size = by_kv_head.shape[1]
    chosen = [group * size + most_important(by_kv_head[group], each) for group in groups]
    inner = dense(spec.layers[index]).intermediate_size
    neurons = most_important(importance.neurons, shape.mlp_size or inner)
    return KeptLayer(index, groups, np.concatenate(chosen), neurons)


def _heads(shape: Shape, spec: ModelSpec) -> tuple[int, int]:
    """Of queries and of keys; fewer KV heads alone take their queries with them."""
    attention = spec.layers[0].attention
    kv_heads = shape.kv_heads or attention.num_kv_heads
    each = attention.num_heads // attention.num_kv_heads
    return shape.heads or kv_heads * each, kv_heads


def _read_by_the_head(model: FloatModel, states: HiddenStates) -> Floats:
    """[hidden_size]: the share of the logits' energy that comes through each channel."""
    (head,) = model.plan.get("head") or model.plan["embedding"]
    (norm,) = model.plan["norm"]
    tensors = model.checkpoint.tensors
    gain = tensors.get(norm.name).to_float32() + np.float32(model.spec.norm.offset)
    squares = np.zeros(len(gain))
    for x in states.chunks:
        squares += np.square(x / np.sqrt(np.square(x).mean(axis=1, keepdims=True))).sum(axis=0)
    energies = squares * np.square(gain) * _column_squares(tensors.get(head.name).buffers["weight"])
    shares: Floats = (energies / energies.sum()).astype(np.float32)
    return shares


def _column_squares(table: Array) -> Floats:
    total = np.zeros(table.shape[1], np.float32)
    for start in range(0, len(table), 4096):
        total += np.square(table[start : start + 4096].astype(np.float32)).sum(axis=0)
    return total


class _Cutting:
    """Writes what is left of a model."""

    def __init__(self, model: FloatModel, kept: Kept, artefact: PartialArtefact) -> None:
        self._model, self._kept, self._artefact = model, kept, artefact
        self._cuts = role_cuts(model.spec, kept)
        self.config = cut_config(model.checkpoint.config, model.spec, kept)
        self._plan = _plan_of(self.config, cut_spec(model.spec, kept), model.spec)

    def write(self) -> None:
        count = len(self._kept.layers)
        for place in range(count):
            prefix = f"layers.{place}."
            self._write(place, [role for role in self._plan if role.startswith(prefix)])
        self._write(count, [role for role in self._plan if not role.startswith("layers.")])

    def _write(self, shard: int, roles: Sequence[str]) -> None:
        if self._artefact.has(shard):
            return
        arrays: dict[str, Array] = {}
        for role in roles:
            arrays |= self._role(role)
        self._artefact.write(shard, arrays)
        self._model.checkpoint.tensors.release()

    def _role(self, role: str) -> dict[str, Array]:
        cut, spec = self._cuts.get(role, RoleCut()), self._model.spec
        parts = [self._model.stored(name) for name in self._model.names(self._whole(role))]
        left = cut_parts(parts, cut)
        if cut.is_gain:
            left = [regained(part, spec) for part in left]
        return {source.name: part for source, part in zip(self._plan[role], left, strict=True)}

    def _whole(self, role: str) -> str:
        """The role's name in the whole model."""
        if not role.startswith("layers."):
            return role
        _, place, name = role.split(".", 2)
        return f"layers.{self._kept.layers[int(place)].index}.{name}"


def _plan_of(config: dict[str, Any], wanted: ModelSpec, whole: ModelSpec) -> Plan:
    """Where the smaller model's weights stand.

    Raises:
        UsageError: its config.json would say another model.
    """
    if "text_config" in config or model_spec(config, whole.max_model_len) != wanted:
        raise UsageError(
            f"What a {whole.family} computes follows from its sizes, so that this part of it "
            "cannot be cut; keep another."
        )
    layout = FAMILIES[wanted.family].layout
    return weight_plan(wanted, layout, layout.roots[0])
