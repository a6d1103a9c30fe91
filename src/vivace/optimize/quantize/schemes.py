"""What can be asked for: a scheme for all layers, and others for some of their linears."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from vivace.core.errors import UsageError
from vivace.formats.policy import PrecisionPolicy
from vivace.formats.qtensor import Scheme
from vivace.formats.schemes import GROUP_SIZES, NESTED, SCHEMES
from vivace.models.loader import role_shapes
from vivace.models.spec import ModelSpec
from vivace.optimize.layer import LINEARS


def low_bits(bits: int, group_size: int, zero_points: bool) -> Scheme:
    """Of 2 or 3 bits, which are stored and become floats again when they are loaded."""
    return Scheme(
        f"int{bits}-g{group_size}{'-zp' if zero_points else ''}", bits, group_size, zero_points
    )


STORED: dict[str, Scheme] = {
    **SCHEMES,
    **NESTED,
    **{
        scheme.name: scheme
        for scheme in (low_bits(*case) for case in product((3, 2), GROUP_SIZES, (False, True)))
    },
}


def schemes_of(text: str, spec: ModelSpec) -> dict[str, Scheme]:
    """The scheme of each linear of the layers, by its role; those without one are kept.

    Args:
        text: as `--quantize` takes it, with the schemes of `STORED`.

    Raises:
        UsageError: a scheme is unknown or does not fit a matrix, or a rule names what cannot be
            quantized.
    """
    policy = PrecisionPolicy.parse(text, STORED, head=None)
    if any(rule.matches(role) for rule in policy.rules for role in ("head", "embedding")):
        raise UsageError(
            "The head and the embedding are kept as they are: round them when the result is "
            "loaded, as in --quantize head=int8."
        )
    linears = [f"layers.{i}.{name}" for i in range(len(spec.layers)) for name in LINEARS]
    policy.check(linears)
    found = ((role, policy.scheme_of(role)) for role in linears)
    schemes = {role: scheme for role, scheme in found if scheme is not None}
    _check_widths(schemes, role_shapes(spec))
    grouped = {s.activation_bits for s in schemes.values() if s.bits == 4}
    if len(grouped) > 1:
        raise UsageError("Give all int4 schemes the same activations: all with -a16, or none.")
    return schemes


def _check_widths(
    schemes: Mapping[str, Scheme], shapes: Mapping[str, list[tuple[int, ...]]]
) -> None:
    for role, scheme in schemes.items():
        width = shapes[role][0][1]
        if scheme.group_size is not None and width % scheme.group_size:
            raise UsageError(
                f"{role} has {width} inputs, no multiple of {scheme.group_size}: choose smaller "
                f"groups for it, or keep it as it is ({role}=none)."
            )
