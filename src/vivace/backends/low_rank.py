"""Low-rank adapters as backends take them (Hu et al., LoRA, 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vivace.core.errors import BackendError
from vivace.formats.qtensor import QTensor


@dataclass(frozen=True)
class AdapterRoom:
    """Room for low-rank adapters beside each of some linears.

    Attributes:
        slots: adapters that can be there at once.
        max_rank: of one part of a linear.
    """

    slots: int
    max_rank: int


@dataclass(frozen=True)
class LowRank:
    """What an adapter adds to outputs [first, first + out) of a linear: scale * b (a x), before any
    activation.

    Attributes:
        a: [rank, in].
        b: [out, rank].
    """

    first: int
    a: QTensor
    b: QTensor
    scale: float


def rows_by_slot(ids: NDArray[np.int32] | None, slots: int) -> list[NDArray[np.intp]]:
    """The rows that have the adapter of each slot, from 1, where ids [T] say whose each one is.

    Raises:
        BackendError: a row names a slot that there is no room for.
    """
    if ids is None:
        return []
    if ids.max(initial=0) > slots:
        raise BackendError(f"A row names an adapter that there is no room for: there are {slots}.")
    return [np.flatnonzero(ids == slot) for slot in range(1, slots + 1)]


def check_adapter(slots: int, slot: int, shape: tuple[int, int], parts: Sequence[LowRank]) -> None:
    """Whether these parts fit a linear of [out, in] weights that has room for `slots` adapters.

    Raises:
        BackendError: they do not.
    """
    if not 1 <= slot <= slots:
        raise BackendError(f"There is no room for adapters in slot {slot}: there are {slots}.")
    for part in parts:
        rank, inputs = part.a.shape
        end = part.first + part.b.shape[0]
        if inputs != shape[1] or part.b.shape[1] != rank or not 0 <= part.first < end <= shape[0]:
            raise BackendError(
                f"An adapter of {list(part.a.shape)} and {list(part.b.shape)} from output "
                f"{part.first} on does not fit weights of {list(shape)}."
            )
