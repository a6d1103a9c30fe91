"""Urgent requests in the midst of batch work that takes every seat.

    python benchmarks/priority.py [--rounds 5] [--short]

A round runs three times, with new tokens: the batch work alone, the urgent requests (a better
priority) on an idle engine, and both. Then aging: urgent work without end, and a few requests of a
worse priority, which nobody would ever serve but for `max_wait_seconds`. Prints one JSON object:
times to first token, what steps took, and tokens per second.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from scheduling.command import Command, report
from scheduling.drive import Background, Run, drive
from scheduling.engines import arriving, endless, int8_engine
from scheduling.figures import p99, quantiles

from vivace.bench.run import random_requests
from vivace.core.request import Request
from vivace.engine.core import EngineCore

URGENT, USUAL = -1, 0
ARRIVING = 0.9  # of the time that the batch work takes alone


@dataclass(frozen=True)
class Sizes:
    """Attributes:
    seats: requests that run at once.
    batch: requests of batch work, all there from the beginning.
    batch_lengths: their tokens in and out.
    urgent: requests that arrive meanwhile.
    urgent_lengths: theirs, in the same proportion: so a token of either is as much work.
    max_wait: seconds until somebody who waits has aged.
    starved: requests that only aging brings to their turn.
    """

    preset: str
    seats: int
    batch: int
    batch_lengths: tuple[int, int]
    urgent: int
    urgent_lengths: tuple[int, int]
    max_wait: float
    starved: int


FULL = Sizes("0.35b", 8, 64, (512, 128), 32, (128, 32), max_wait=4.0, starved=8)
SHORT = Sizes("tiny", 2, 6, (48, 12), 4, (24, 6), max_wait=0.2, starved=2)


def measure(sizes: Sizes, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    core = int8_engine(sizes.preset, max_num_seqs=sizes.seats)
    span = drive(core, _batch(core, sizes, rng)).seconds  # warms up, too
    by_round, idle, loaded = [], [], []
    for done in range(rounds):
        by_round.append(_round(core, sizes, span, rng))
        idle += by_round[-1].pop("idle_ttfts")
        loaded += by_round[-1].pop("loaded_ttfts")
        report(f"round {done + 1} of {rounds}")
    core.close()
    return {
        "medians": {name: median(one[name] for one in by_round) for name in by_round[0]},
        "by_round": by_round,
        "idle_ttfts": quantiles(idle),
        "loaded_ttfts": quantiles(loaded),
        "starved_ttfts": _starved(sizes, rng),
    }


def _round(core: EngineCore, sizes: Sizes, span: float, rng: np.random.Generator) -> dict[str, Any]:
    places = np.arange(sizes.urgent) + rng.uniform(0, 0.5, sizes.urgent)
    arrivals = ARRIVING * span / sizes.urgent * places
    alone = drive(core, _batch(core, sizes, rng))
    idle = drive(core, _urgent(core, sizes, arrivals, rng))
    urgent = _urgent(core, sizes, arrivals, rng)
    both = drive(core, [*urgent, *_batch(core, sizes, rng)])
    idle_ttfts, loaded_ttfts = _ttfts(idle), [one.ttft for one in both.of(urgent)]
    return {
        "idle_p99_ttft": p99(idle_ttfts),
        "loaded_p99_ttft": p99(loaded_ttfts),
        "median_step": median(alone.steps),
        "p99_step": p99(alone.steps),
        "batch_tokens_per_second": alone.tokens_per_second,
        "both_tokens_per_second": both.tokens_per_second,
        "idle_ttfts": idle_ttfts,
        "loaded_ttfts": loaded_ttfts,
    }


def _batch(core: EngineCore, sizes: Sizes, rng: np.random.Generator) -> list[Request]:
    requests = random_requests(core, sizes.batch, *sizes.batch_lengths, rng)
    return arriving(requests, [0.0] * sizes.batch, priority=USUAL)


def _urgent(
    core: EngineCore, sizes: Sizes, arrivals: np.ndarray, rng: np.random.Generator
) -> list[Request]:
    requests = random_requests(core, sizes.urgent, *sizes.urgent_lengths, rng)
    return arriving(requests, arrivals.tolist(), priority=URGENT)


def _ttfts(run: Run) -> list[float]:
    return [timeline.ttft for timeline in run.ended]


def _starved(sizes: Sizes, rng: np.random.Generator) -> list[float]:
    """Times to first token of those that urgent work without end keeps waiting. A little more of
    it is there than there are seats, so that none of it ages."""
    core = int8_engine(sizes.preset, max_num_seqs=sizes.seats, max_wait_seconds=sizes.max_wait)
    work = endless(core, sizes.batch_lengths, rng, priority=URGENT)
    requests = random_requests(core, sizes.starved, *sizes.urgent_lengths, rng)
    arrivals = sizes.max_wait * (0.25 + 0.5 * np.arange(sizes.starved))
    starved = arriving(requests, arrivals.tolist(), priority=USUAL)
    run = drive(core, starved, background=Background(sizes.seats + 2, work))
    core.close()
    return _ttfts(run)


if __name__ == "__main__":
    Command(
        about="Urgent requests in the midst of batch work.",
        takes="10 to 20 minutes",
        full=FULL,
        short=SHORT,
        measure=measure,
    ).main()
