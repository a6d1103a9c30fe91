"""Two tenants, one of which asks for all that the engine can give.

    python benchmarks/tenants.py [--rounds 5] [--short]

The steady tenant has as many clients as its half of the engine has seats, each of which asks again
as soon as it has its answer. The abusive one keeps a crowd of the longest prompts waiting. Alone
at its share is the steady tenant alone on an engine with half the seats and half the speed: all
its clients are always served, so what it takes there is twice what it takes at full speed. Shared,
it runs on an engine whose target is what a stream sees at that half speed, and on one without a
target. Prints one JSON object: 99th percentiles of latency and time to first token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean
from typing import Any

import numpy as np
from scheduling.command import Command, report
from scheduling.drive import Background, Follow, Run, drive
from scheduling.engines import endless, int8_engine
from scheduling.figures import p99

from vivace.core.request import Request
from vivace.engine.core import EngineCore

STEADY, ABUSIVE = "steady", "abusive"
SHARE = 0.5
WITH, WITHOUT = "target", "no target"


@dataclass(frozen=True)
class Sizes:
    """Attributes:
    seats: of the shared engine.
    requests: of each client of the steady tenant in a round.
    lengths: their tokens in and out.
    crowd: requests of the abusive tenant, always.
    crowd_lengths: theirs.
    """

    preset: str
    seats: int
    requests: int
    lengths: tuple[int, int]
    crowd: int
    crowd_lengths: tuple[int, int]

    @property
    def clients(self) -> int:
        return int(self.seats * SHARE)


FULL = Sizes("0.35b", 8, 4, (256, 64), 24, (3968, 64))
SHORT = Sizes("tiny", 4, 2, (24, 6), 6, (200, 6))


def measure(sizes: Sizes, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    half = int8_engine(sizes.preset, max_num_seqs=sizes.clients)
    warm = drive(half, *_steady(half, sizes, rng))
    target = fmean(gap for one in warm.ended for gap in one.gaps) / SHARE
    shared = {
        WITH: int8_engine(sizes.preset, max_num_seqs=sizes.seats, target_itl_ms=1000 * target),
        WITHOUT: int8_engine(sizes.preset, max_num_seqs=sizes.seats),
    }
    for core in shared.values():
        _shared(core, sizes, rng)  # warms up
    alone: list[Run] = []
    beside: dict[str, list[Run]] = {name: [] for name in shared}
    for done in range(rounds):
        alone.append(drive(half, *_steady(half, sizes, rng)))
        for name, core in shared.items():
            beside[name].append(_shared(core, sizes, rng))
        report(f"round {done + 1} of {rounds}")
    runs = {"alone": alone, **beside}
    return {
        "share": SHARE,
        "target": target,
        "alone": _p99s(alone),
        "shared": {name: _p99s(found) for name, found in beside.items()},
        "by_round": {name: [_p99s([run]) for run in found] for name, found in runs.items()},
    }


def _steady(
    core: EngineCore, sizes: Sizes, rng: np.random.Generator
) -> tuple[list[Request], Follow]:
    """The first request of each client, and what follows an answer."""
    number = sizes.clients * sizes.requests
    requests = islice(endless(core, sizes.lengths, rng, tenant=STEADY, arrival=0.0), number)
    return list(islice(requests, sizes.clients)), lambda timeline: next(requests, None)


def _shared(core: EngineCore, sizes: Sizes, rng: np.random.Generator) -> Run:
    crowd = endless(core, sizes.crowd_lengths, rng, tenant=ABUSIVE)
    return drive(core, *_steady(core, sizes, rng), Background(sizes.crowd, crowd))


def _p99s(runs: Sequence[Run]) -> dict[str, float]:
    ended = [one for run in runs for one in run.ended]
    return {
        "latency": p99([one.latency for one in ended]),
        "ttft": p99([one.ttft for one in ended]),
    }


if __name__ == "__main__":
    Command(
        about="A steady tenant beside an abusive one.",
        takes="4 minutes",
        full=FULL,
        short=SHORT,
        measure=measure,
    ).main()
