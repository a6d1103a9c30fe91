"""Buffers are shared by values that are never alive together."""

from __future__ import annotations

import random
from typing import Any

import pytest

from vivace.backends.cpu.planning import plan_buffers
from vivace.backends.cpu.recording import Embed, LinearResidual, Record, Value, inputs
from vivace.backends.protocol import Residual

pytestmark = pytest.mark.tiny

WEIGHT: Any = None  # planning never looks at weights


def random_records(seed: int) -> list[Record]:
    """An embedding, then records that each read two earlier values, some never read."""
    rng = random.Random(seed)
    records: list[Record] = [Embed(Value(0, 8), WEIGHT, 1.0, None)]
    for i in range(1, 30):
        x, into = (rng.choice(records).out for _ in range(2))
        out = Value(i, rng.choice((4, 8, 16)))
        records.append(LinearResidual(out, x, WEIGHT, Residual(into)))
    return records


@pytest.mark.parametrize("seed", range(50))
def test_no_value_is_overwritten_while_it_is_needed(seed: int) -> None:
    records = random_records(seed)
    result = random.Random(seed).choice(records).out
    plan = plan_buffers(records, result, lambda value: value.width)
    holds: dict[int, Value] = {}
    for record in records:
        for value in inputs(record):
            assert holds[plan.buffer_of[value.id]] == value
        buffer = plan.buffer_of[record.out.id]
        assert plan.sizes[buffer] >= record.out.width
        assert buffer not in {plan.buffer_of[value.id] for value in inputs(record)}
        holds[buffer] = record.out
    assert holds[plan.buffer_of[result.id]] == result


def test_a_chain_of_residual_layers_needs_two_buffers() -> None:
    records: list[Record] = [Embed(Value(0, 8), WEIGHT, 1.0, None)]
    for i in range(1, 20):
        last = records[-1].out
        records.append(LinearResidual(Value(i, 8), last, WEIGHT, Residual(last)))
    assert len(plan_buffers(records, records[-1].out, lambda value: value.width).sizes) == 2
