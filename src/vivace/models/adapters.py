"""Where a LoRA adapter's modules stand in a decoder, and what they take of memory there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vivace.backends.low_rank import AdapterRoom, LowRank
from vivace.backends.protocol import Backend, Linear
from vivace.core.errors import CheckpointError
from vivace.formats.peft import LoraAdapter, LoraModule
from vivace.models.decoder import Decoder, DenseWeights
from vivace.models.families import FAMILIES
from vivace.models.loader import role_shapes
from vivace.models.spec import ModelSpec
from vivace.models.weights import is_adaptable, weight_plan


@dataclass(frozen=True)
class _Place:
    """Outputs [first, first + shape[0]) of a role's linear."""

    role: str
    first: int
    shape: tuple[int, ...]


def adapter_parts(
    spec: ModelSpec, adapter: LoraAdapter, room: AdapterRoom
) -> dict[str, list[LowRank]]:
    """What an adapter adds, by role; an adapter of one part of a fused matrix adds to its outputs.

    Raises:
        CheckpointError: a module is not of this model, or none that can be adapted; its shapes do
            not fit; or its rank is above `room.max_rank`.
    """
    places = _places(spec)
    parts: dict[str, list[LowRank]] = {}
    for name, module in adapter.modules.items():
        place = places.get(name)
        if place is None:
            raise CheckpointError(
                f"{adapter.folder} adapts {name}, which cannot be: adapters are for the linear "
                "layers of attention and of dense MLPs of the model that is loaded."
            )
        _check_fits(adapter, name, module, place)
        if module.rank > room.max_rank:
            raise CheckpointError(
                f"{adapter.folder} has rank {module.rank}, more than max_lora_rank "
                f"{room.max_rank}; raise it."
            )
        low_rank = LowRank(place.first, module.a, module.b, module.scale)
        parts.setdefault(place.role, []).append(low_rank)
    return parts


def set_adapter(
    backend: Backend, decoder: Decoder, slot: int, parts: Mapping[str, list[LowRank]]
) -> None:
    """Fill a slot of every linear of a decoder, from 1; with no parts, empty it."""
    for role, linear in linears(decoder):
        backend.set_adapter(linear, slot, parts.get(role, ()))


def linears(decoder: Decoder) -> Iterator[tuple[str, Linear]]:
    """Those that adapters may stand beside, by role."""
    for i, layer in enumerate(decoder.weights.layers):
        yield f"layers.{i}.attention.qkv", layer.attention.qkv
        yield f"layers.{i}.attention.out", layer.attention.out
        if isinstance(layer.mlp.body, DenseWeights):
            yield f"layers.{i}.mlp.up", layer.mlp.body.up
            yield f"layers.{i}.mlp.down", layer.mlp.body.down


def adapter_values(spec: ModelSpec, max_rank: int) -> int:
    """The most values that one adapter of that rank has in such a model."""
    return sum(
        max_rank * (outputs + inputs)
        for role, shapes in role_shapes(spec).items()
        if is_adaptable(role)
        for outputs, inputs in shapes
    )


def _check_fits(adapter: LoraAdapter, name: str, module: LoraModule, place: _Place) -> None:
    shape = (module.b.shape[0], module.a.shape[1])
    if shape != place.shape:
        raise CheckpointError(
            f"{adapter.folder} adapts {name} as {list(shape)}, but the model has it as "
            f"{list(place.shape)}; was it trained for another model?"
        )


def _places(spec: ModelSpec) -> dict[str, _Place]:
    """By module, under every name that the model goes by."""
    layout = FAMILIES[spec.family].layout
    places: dict[str, _Place] = {}
    for root in layout.roots:
        for role, sources in weight_plan(spec, layout, root).items():
            first = 0
            for source in sources if is_adaptable(role) else ():
                name = source.name.removesuffix(".weight")
                places[name] = _Place(role, first, source.view_shape)
                first += source.view_shape[0]
    return places
