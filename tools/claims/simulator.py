"""Row 8: the simulator beside the engine."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from claims.row import Outcome

BAR = 0.1
LEAST_TRACES = 4
LEAST_ROUNDS = 5


def judge(result: dict[str, Any]) -> Outcome:
    """Every figure of every trace must be near; the worst ones are told."""
    traces = result["traces"]
    errors = {
        f"{trace} {figure}": _error(one["real"], one["predicted"])
        for trace, figures in traces.items()
        for figure, one in figures.items()
    }
    off = [
        f"{trace} {figure} by {errors[f'{trace} {figure}']:+.0%}"
        for trace, figures in traces.items()
        for figure, one in figures.items()
        if not near(one["real"], one["predicted"])
    ]
    middle = median(abs(error) for error in errors.values())
    measured = (
        f"{len(errors) - len(off)} of {len(errors)} figures of {len(traces)} traces within 10% or "
        f"the spread of {result['rounds']} runs; median error {middle:.1%}"
    )
    if off:
        measured += f"; off: {', '.join(off)}"
    enough = len(traces) >= LEAST_TRACES and result["rounds"] >= LEAST_ROUNDS
    return Outcome(measured, enough and not off, figures={"simulator": result})


def near(real: Sequence[float], predicted: float) -> bool:
    """Within 10% of the median, or among the real runs."""
    return abs(_error(real, predicted)) <= BAR or min(real) <= predicted <= max(real)


def _error(real: Sequence[float], predicted: float) -> float:
    return predicted / median(real) - 1
