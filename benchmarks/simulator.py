"""Traces on paper and for real: how near the simulator's predictions are.

    python benchmarks/simulator.py [--rounds 5] [--short]

The profile of the engine is fitted from steps of its own (`vivace bench fit`), which have nothing
of the traces. Each trace is then replayed in every round, and simulated as often with seeds of its
own. How fast its requests come follows from the simulator: as many as take `BUSY` of the engine's
time. Prints one JSON object: per trace and figure the real values of each round and the median
prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from statistics import median
from typing import Any

from scheduling.command import Command, report
from scheduling.engines import config_of, start
from scheduling.traces import TRACES

from vivace.bench.plans import FitPlan, SimulationPlan
from vivace.bench.simulate.fit import fit_profile, spread
from vivace.bench.simulate.measure import replay, simulate
from vivace.bench.simulate.profile import Profile
from vivace.bench.simulate.trace import TraceRow
from vivace.core.config import EngineConfig
from vivace.engine.build import scheduling
from vivace.engine.core import EngineCore

FIGURES = (
    "output_throughput",
    "median_ttft_ms",
    "p99_ttft_ms",
    "median_itl_ms",
    "p99_itl_ms",
)
HITS = "prefix_hit_tokens"
BUSY = 0.75
APART = 1_000_000  # lines between two replays: prompts follow from their lines


@dataclass(frozen=True)
class Sizes:
    """Attributes:
    kv_memory: bytes of KV pages, which the profile's first round fills once.
    length: the longest prompt and answer of a trace.
    requests: of each trace.
    fit: the steps that the profile is made from.
    """

    preset: str
    kv_memory: int
    seats: int
    length: int
    requests: int
    fit: FitPlan


FULL = Sizes("0.35b", 3 * 2**28, 16, 2048, 24, FitPlan(num_iters=2, context=2048))
SHORT = Sizes("tiny", 2**21, 4, 256, 6, FitPlan(num_iters=1, context=128))


def measure(sizes: Sizes, rounds: int) -> dict[str, Any]:
    config = config_of(sizes.preset, max_num_seqs=sizes.seats, kv_memory_bytes=sizes.kv_memory)
    core = start(config)
    profile = fit_profile(core, config, sizes.fit)
    report("the profile is made")
    traces = {
        name: _paced(profile, make(sizes.requests, sizes.length)) for name, make in TRACES.items()
    }
    real: dict[str, list[dict[str, float]]] = {name: [] for name in traces}
    replays = count(1)
    for done in range(rounds):
        for name, rows in traces.items():
            real[name].append(_replayed(core, config, _anew(rows, next(replays))))
        report(f"round {done + 1} of {rounds}")
    predicted = {
        name: [_simulated(profile, rows, seed) for seed in range(rounds)]
        for name, rows in traces.items()
    }
    compared = {name: _compared(real[name], predicted[name]) for name in traces}
    hits = {name: figures.pop(HITS) for name, figures in compared.items()}
    return {"fit": spread(profile), "traces": compared, HITS: hits}


def _paced(profile: Profile, rows: Sequence[TraceRow]) -> list[TraceRow]:
    """Rows whose arrivals lie between 0 and 1, spread over the time that makes the engine busy."""
    at_once = [replace(row, arrival_seconds=0.0) for row in rows]
    seconds = simulate(profile, SimulationPlan(), at_once).result["duration"] / BUSY
    return [replace(row, arrival_seconds=row.arrival_seconds * seconds) for row in rows]


def _anew(rows: Sequence[TraceRow], number: int) -> list[TraceRow]:
    """The same trace with other tokens: what earlier replays, of any trace, left in the cache is
    of no use."""
    return [
        replace(
            row,
            line=row.line + APART * number,
            prefix_id=None if row.prefix_id is None else f"{row.prefix_id}, replay {number}",
        )
        for row in rows
    ]


def _replayed(core: EngineCore, config: EngineConfig, rows: Sequence[TraceRow]) -> dict[str, float]:
    return _figures(replay(core, scheduling(config), rows).result)


def _simulated(profile: Profile, rows: Sequence[TraceRow], seed: int) -> dict[str, float]:
    return _figures(simulate(profile, SimulationPlan(seed=seed), rows).result)


def _figures(result: dict[str, Any]) -> dict[str, float]:
    assert not result["failed"], "A request of the trace was refused."
    return {name: result[name] for name in (*FIGURES, HITS)}


def _compared(
    real: list[dict[str, float]], predicted: list[dict[str, float]]
) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "real": [one[name] for one in real],
            "predicted": median(one[name] for one in predicted),
        }
        for name in (*FIGURES, HITS)
    }


if __name__ == "__main__":
    Command(
        about="The simulator beside the engine.",
        takes="4 minutes",
        full=FULL,
        short=SHORT,
        measure=measure,
    ).main()
