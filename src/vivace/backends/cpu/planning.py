"""Which buffer holds which value: buffers are reused as soon as nobody reads them any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vivace.backends.cpu.recording import Record, Value, inputs


@dataclass(frozen=True)
class Plan:
    """Attributes:
    buffer_of: the buffer of each value, by its id.
    sizes: floats of each buffer.
    """

    buffer_of: dict[int, int]
    sizes: tuple[int, ...]


def plan_buffers(records: Sequence[Record], result: Value, size_of: Callable[[Value], int]) -> Plan:
    """Give each record's result a buffer that no value still to be read stands in."""
    last_use = {value.id: i for i, record in enumerate(records) for value in inputs(record)}
    last_use[result.id] = len(records)
    buffer_of: dict[int, int] = {}
    sizes: list[int] = []
    free: set[int] = set()
    for i, record in enumerate(records):
        size = size_of(record.out)
        buffer = _best_fit(free, sizes, size)
        sizes[buffer] = max(sizes[buffer], size)
        buffer_of[record.out.id] = buffer
        ending = {value.id for value in inputs(record) if last_use[value.id] == i}
        if record.out.id not in last_use:
            ending.add(record.out.id)
        free |= {buffer_of[value_id] for value_id in ending}
    return Plan(buffer_of, tuple(sizes))


def _best_fit(free: set[int], sizes: list[int], size: int) -> int:
    """Take the smallest free buffer that holds `size`, else the largest, else a new one."""
    if not free:
        sizes.append(0)
        return len(sizes) - 1
    holding = [buffer for buffer in free if sizes[buffer] >= size]
    if holding:
        chosen = min(holding, key=lambda buffer: (sizes[buffer], buffer))
    else:
        chosen = max(free, key=lambda buffer: (sizes[buffer], buffer))
    free.remove(chosen)
    return chosen
