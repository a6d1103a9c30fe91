"""Urgent requests in the midst of batch work that takes every seat.

    python benchmarks/priority.py [--rounds 5] [--short]

A round runs three times, with new tokens: the batch work alone, the urgent requests (a better
priority) on an idle engine, and both. Then aging: urgent work without end, and a few requests of a
worse priority, which nobody would ever serve but for `max_wait_seconds`. Prints one JSON object:
times to first token, what steps took, and tokens per second. A figure is the median of the rounds,
a percentile that of the rounds' own: what disturbs the machine for a moment is in one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from scheduling.command import Command, report
from scheduling.drive import Background, Timeline, drive
from scheduling.engines import arriving, endless, int8_engine
from scheduling.figures import medians, p99, quantiles

from vivace.bench.run import random_requests
from vivace.core.request import Request
from vivace.engine.core import EngineCore

URGENT, USUAL = -1, 0
ARRIVING = 0.9  # of the time that some of the batch work waits for a seat
MORE = 2  # urgent requests than seats where others starve: they never wait long enough to age
PATIENCE = 2.0  # times what one of them takes, so that by then all who run came later


@dataclass(frozen=True)
class Sizes:
    """Attributes:
    kv_memory: bytes of KV pages, which the batch work fills once.
    seats: requests that run at once.
    batch: requests of batch work, all there from the beginning.
    batch_lengths: their tokens in and out.
    urgent: requests that arrive meanwhile.
    urgent_lengths: theirs, in the same proportion: so a token of either is as much work.
    starved: requests that only aging brings to their turn.
    """

    preset: str
    kv_memory: int
    seats: int
    batch: int
    batch_lengths: tuple[int, int]
    urgent: int
    urgent_lengths: tuple[int, int]
    starved: int


FULL = Sizes("0.35b", 2**29, 8, 20, (512, 128), 24, (128, 32), starved=3)
SHORT = Sizes("tiny", 2**20, 2, 6, (48, 12), 4, (24, 6), starved=2)


@dataclass(frozen=True)
class Round:
    """Attributes:
    ttfts: of the urgent requests, on an idle engine and beside the batch work.
    steps: of the batch work alone.
    rates: tokens per second of the batch work, and of both, while some of it waits for a seat.
    """

    ttfts: dict[str, list[float]]
    steps: tuple[float, ...]
    rates: dict[str, float]

    @property
    def p99_ttfts(self) -> dict[str, float]:
        return {name: p99(values) for name, values in self.ttfts.items()}


def measure(sizes: Sizes, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    core = int8_engine(sizes.preset, max_num_seqs=sizes.seats, kv_memory_bytes=sizes.kv_memory)
    warm = drive(core, _batch(core, sizes, rng))
    made = []
    for done in range(rounds):
        made.append(_round(core, sizes, _busy(warm.ended), rng))
        report(f"round {done + 1} of {rounds}")
    core.close()
    max_wait = PATIENCE * warm.seconds * (sizes.seats + MORE) / sizes.batch
    return {
        "p99_ttft": medians([one.p99_ttfts for one in made]),
        "p99_step": median(p99(one.steps) for one in made),
        "tokens_per_second": medians([one.rates for one in made]),
        "p99_ttfts_by_round": [one.p99_ttfts for one in made],
        "rates_by_round": [one.rates for one in made],
        "ttfts": {
            name: quantiles([ttft for one in made for ttft in one.ttfts[name]])
            for name in made[0].ttfts
        },
        "max_wait": max_wait,
        "starved_ttfts": _starved(sizes, max_wait, rng),
    }


def _round(core: EngineCore, sizes: Sizes, busy: float, rng: np.random.Generator) -> Round:
    """Urgent requests come while others wait for every seat, evenly but for chance, so that they
    meet steps at any moment."""
    places = np.arange(sizes.urgent) + rng.uniform(0.5, 1, sizes.urgent)
    arrivals = (ARRIVING * busy / sizes.urgent * places).tolist()
    alone = drive(core, _batch(core, sizes, rng))
    idle = drive(core, _urgent(core, sizes, arrivals, rng))
    urgent, batch = _urgent(core, sizes, arrivals, rng), _batch(core, sizes, rng)
    both = drive(core, [*urgent, *batch])
    rates = {
        "batch": _rate(alone.ended, _busy(alone.ended)),
        "both": _rate(both.ended, _busy(both.of(batch))),
    }
    ttfts = {"idle": _ttfts(idle.ended), "loaded": _ttfts(both.of(urgent))}
    return Round(ttfts, alone.steps, rates)


def _busy(batch: Iterable[Timeline]) -> float:
    """How long some of it waited for a seat."""
    return max(timeline.times[0] for timeline in batch)


def _rate(timelines: Iterable[Timeline], until: float) -> float:
    """Tokens per second, of answers and of the prompts of those that have begun."""
    tokens = 0
    for timeline in timelines:
        drawn = sum(time <= until for time in timeline.times)
        tokens += drawn + (len(timeline.request.prompt_token_ids) if drawn else 0)
    return tokens / until


def _batch(core: EngineCore, sizes: Sizes, rng: np.random.Generator) -> list[Request]:
    requests = random_requests(core, sizes.batch, *sizes.batch_lengths, rng)
    return arriving(requests, [0.0] * sizes.batch, priority=USUAL)


def _urgent(
    core: EngineCore, sizes: Sizes, arrivals: Sequence[float], rng: np.random.Generator
) -> list[Request]:
    requests = random_requests(core, sizes.urgent, *sizes.urgent_lengths, rng)
    return arriving(requests, arrivals, priority=URGENT)


def _ttfts(timelines: Iterable[Timeline]) -> list[float]:
    return [timeline.ttft for timeline in timelines]


def _starved(sizes: Sizes, max_wait: float, rng: np.random.Generator) -> list[float]:
    """Times to first token of those that urgent work without end keeps waiting."""
    core = int8_engine(
        sizes.preset,
        max_num_seqs=sizes.seats,
        kv_memory_bytes=sizes.kv_memory,
        max_wait_seconds=max_wait,
    )
    drive(core, _batch(core, sizes, rng))  # warms up
    requests = random_requests(core, sizes.starved, *sizes.urgent_lengths, rng)
    arrivals = (max_wait * (0.5 + 0.25 * np.arange(sizes.starved))).tolist()
    urgent = Background(
        sizes.seats + MORE, endless(core, sizes.batch_lengths, rng, priority=URGENT)
    )
    run = drive(core, arriving(requests, arrivals, priority=USUAL), background=urgent)
    core.close()
    return _ttfts(run.ended)


if __name__ == "__main__":
    Command(
        about="Urgent requests in the midst of batch work.",
        takes="4 minutes",
        full=FULL,
        short=SHORT,
        measure=measure,
    ).main()
