"""What each weight of a model is kept in: as it is stored, as a policy asks, or as floats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vivace.core.errors import UsageError
from vivace.formats.checkpoint import Checkpoint, Tensors
from vivace.formats.policy import UNQUANTIZED, PrecisionPolicy
from vivace.formats.qtensor import Scheme
from vivace.formats.safetensors import FLOAT_DTYPES
from vivace.models.loader import checked_plan, role_schemes
from vivace.models.spec import ModelSpec
from vivace.models.weights import Source


@dataclass(frozen=True)
class Precision:
    """Roles that are in neither mapping are kept in the backend's dtype.

    Attributes:
        stored: multiplied by as the checkpoint has them.
        rounded: to what they are rounded as they are loaded.
        dequantized: the types, by name, of quantized tensors that are kept as floats.
    """

    stored: Mapping[str, Scheme]
    rounded: Mapping[str, Scheme]
    dequantized: tuple[str, ...]

    @property
    def schemes(self) -> dict[str, Scheme]:
        return {**self.stored, **self.rounded}

    def describe(self, asked: str | None) -> str | None:
        """What is stored, then what was asked for, as `PrecisionPolicy.parse` takes it."""
        names = {scheme.name for scheme in self.stored.values()} - {asked}
        return ",".join([*sorted(names), *([asked] if asked else [])]) or None


def precision_of(
    spec: ModelSpec, checkpoint: Checkpoint, policy: PrecisionPolicy = UNQUANTIZED
) -> Precision:
    """What `load_decoder` keeps, from headers alone.

    Raises:
        CheckpointError: as `load_decoder`.
        UsageError: as `role_schemes`; or what is rounded already is to be rounded again.
    """
    plan = checked_plan(spec, checkpoint)
    found = {role: _stored_scheme(sources, checkpoint.tensors) for role, sources in plan.items()}
    stored = {role: scheme for role, scheme in found.items() if scheme is not None}
    asked = role_schemes(spec, policy)
    for role, scheme in stored.items():
        if asked.pop(role, scheme) != scheme:
            raise UsageError(
                f"{role} is stored in {scheme.name} and is not rounded again: name only others, "
                "as in quantize=head=int8."
            )
    floats = (plan[role] for role in plan.keys() - stored.keys() - asked.keys())
    types = {checkpoint.tensors.dtype(source.name) for sources in floats for source in sources}
    return Precision(stored, asked, tuple(sorted(types - set(FLOAT_DTYPES))))


def _stored_scheme(sources: Sequence[Source], tensors: Tensors) -> Scheme | None:
    """What the parts of a matrix are all stored in; None where one is floats, or they differ."""
    schemes = {tensors.get(source.name).scheme for source in sources}
    if len(schemes) > 1:
        return None
    scheme = schemes.pop()
    return None if scheme.is_float else scheme
