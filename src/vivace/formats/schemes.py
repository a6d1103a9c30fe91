"""The integer schemes there are, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

from vivace.core.errors import UsageError
from vivace.formats.qtensor import INT8, Scheme

GROUP_SIZES = (32, 64, 128)


def int4(group_size: int, zero_points: bool = False, activation_bits: int | None = 8) -> Scheme:
    """int4 in groups, as "int4-g128", "int4-g64-zp", "int4-g32-zp-a16"."""
    suffix = ("-zp" if zero_points else "") + ("" if activation_bits else "-a16")
    return Scheme(f"int4-g{group_size}{suffix}", 4, group_size, zero_points, activation_bits)


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (INT8, *(int4(*case) for case in product(GROUP_SIZES, (False, True), (8, None))))
}


def nested(plane: Scheme) -> Scheme:
    """8 bits in two planes of an int4 scheme, "nested-g128" of "int4-g128": the first by itself is
    the matrix in 4 bits, the second what that one lacks."""
    return replace(plane, name=plane.name.replace("int4", "nested", 1), planes=2)


def plane_of(scheme: Scheme) -> Scheme:
    """The int4 scheme of each plane of a nested one."""
    return replace(scheme, name=scheme.name.replace("nested", "int4", 1), planes=1)


NESTED: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (nested(plane) for plane in SCHEMES.values() if plane.group_size)
}


def scheme_named(name: str, schemes: Mapping[str, Scheme] = SCHEMES) -> Scheme:
    """A scheme by its name; "-a8" goes without saying.

    Raises:
        UsageError: there is no such scheme.
    """
    scheme = schemes.get(name) or schemes.get(name.removesuffix("-a8"))
    if scheme is None or (name != scheme.name and scheme.activation_bits != 8):
        raise UsageError(f"There is no scheme {name!r}; choose among {', '.join(schemes)}.")
    return scheme
