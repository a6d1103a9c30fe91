"""The tensors of a GGUF file, and what each is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vivace.core.errors import UsageError
from vivace.formats.gguf.architectures import Architecture, file_name
from vivace.formats.gguf.blocks import TYPES, TensorType
from vivace.formats.gguf.writer import NewTensor
from vivace.formats.qtensor import Array
from vivace.models.spec import ExpertsSpec, ModelSpec
from vivace.models.weights import Plan, Source
from vivace.optimize.gguf.mixtures import FileType, Shape, type_of

_TYPES = {kind.name: kind for kind in TYPES.values()}


@dataclass(frozen=True)
class Target:
    """Attributes:
    role: of the decoder, that its parts stand in.
    sources: one after the other; a tensor of experts has one for each.
    heads: whose rows are put in llama.cpp's order, or 0.
    offset: added to its values.
    """

    tensor: NewTensor
    role: str
    sources: tuple[Source, ...]
    heads: int
    offset: float

    @property
    def kind(self) -> TensorType:
        return self.tensor.kind

    @property
    def is_linear(self) -> bool:
        return len(self.tensor.shape) > 1


def targets_of(
    plan: Plan, spec: ModelSpec, architecture: Architecture, file: FileType
) -> list[Target]:
    """In the order of the plan.

    Raises:
        UsageError: the architecture has no name for a tensor.
    """
    found: dict[str, list[tuple[str, Source]]] = {}
    root = plan["embedding"][0].name.removesuffix("embed_tokens.weight")
    for role, sources in plan.items():
        for source in sources:
            usual = source.name
            if root and usual.startswith(root):
                usual = f"model.{usual.removeprefix(root)}"
            name = file_name(architecture, usual)
            if name is None or source.transposed:
                raise UsageError(f"GGUF has no place for {source.name} of such a model.")
            found.setdefault(name, []).append((role, source))
    shape = _shape(spec)
    return [_target(name, parts, spec, architecture, file, shape) for name, parts in found.items()]


def neighbours(rows: Array, heads: int) -> Array:
    """Rows of heads whose pairs are half a head apart, to heads whose pairs are neighbours."""
    halves = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


def halves(rows: Array, heads: int) -> Array:
    """The way back from `neighbours`."""
    pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def _target(
    name: str,
    parts: list[tuple[str, Source]],
    spec: ModelSpec,
    architecture: Architecture,
    file: FileType,
    shape: Shape,
) -> Target:
    role, first = parts[0]
    stacked = "_exps." in name
    dimensions = (len(parts), *first.shape) if stacked else first.shape
    is_norm = name.endswith("norm.weight")
    tensor = NewTensor(name, dimensions, _TYPES[type_of(name, dimensions, file, shape)])
    return Target(
        tensor,
        role,
        tuple(source for _, source in parts),
        _moved_heads(name, spec) if architecture.rotary_neighbours else 0,
        architecture.gain_offset if is_norm else 0.0,
    )


def _moved_heads(name: str, spec: ModelSpec) -> int:
    attention = spec.layers[0].attention
    if ".attn_q." in name:
        return attention.num_heads
    return attention.num_kv_heads if ".attn_k." in name else 0


def _shape(spec: ModelSpec) -> Shape:
    first = spec.layers[0]
    experts = first.mlp.num_experts if isinstance(first.mlp, ExpertsSpec) else 0
    groups = first.attention.num_kv_heads < first.attention.num_heads
    return Shape(len(spec.layers), experts, groups, spec.tied_embeddings)
