"""Which prompts of one call run together, where they name more adapters than there is room for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vivace.core.request import LoRARequest


class Wave(NamedTuple):
    """Attributes:
    adapters: that are loaded for it.
    places: of its prompts in the call.
    """

    adapters: tuple[LoRARequest, ...]
    places: tuple[int, ...]


def waves(adapters: Sequence[LoRARequest | None], room: int) -> list[Wave]:
    """At most `room` adapters in each, in the order in which they are named first; prompts for the
    model itself run in the first.

    Args:
        adapters: what each prompt names.
    """
    named = list(dict.fromkeys(one for one in adapters if one is not None))
    size = max(room, 1)
    groups = [named[first : first + size] for first in range(0, len(named), size)] or [[]]
    return [
        Wave(
            tuple(group),
            tuple(
                place
                for place, one in enumerate(adapters)
                if one in group or (one is None and number == 0)
            ),
        )
        for number, group in enumerate(groups)
    ]
