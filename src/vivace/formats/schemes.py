"""The integer schemes there are, by name."""

from __future__ import annotations

from collections.abc import Mapping
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


def scheme_named(name: str, schemes: Mapping[str, Scheme] = SCHEMES) -> Scheme:
    """A scheme by its name; "-a8" goes without saying.

    Raises:
        UsageError: there is no such scheme.
    """
    scheme = schemes.get(name) or schemes.get(name.removesuffix("-a8"))
    if scheme is None or (name != scheme.name and scheme.activation_bits != 8):
        raise UsageError(f"There is no scheme {name!r}; choose among {', '.join(schemes)}.")
    return scheme
