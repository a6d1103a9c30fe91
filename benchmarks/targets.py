"""Streams under way, and bursts of long prompts beside them, with and without a target.

    python benchmarks/targets.py [--rounds 5] [--short]

First the streams alone: three times their median time between tokens is the target. Then, in each
round, streams and bursts on two engines, with that `target_itl_ms` and without. Prints one JSON
object: per engine and round the 99th percentile of the time between the streams' tokens, and all
tokens per second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from scheduling.command import Command, report
from scheduling.drive import drive
from scheduling.engines import arriving, int8_engine
from scheduling.figures import medians, p99, quantiles

from vivace.bench.run import random_requests
from vivace.core.request import Request
from vivace.engine.core import EngineCore

TIMES = 3  # the decode-only median
WITH, WITHOUT = "target", "no target"
WARM_UPS = 1


@dataclass(frozen=True)
class Sizes:
    """Attributes:
    kv_memory: bytes of KV pages, which a round fills once.
    lengths: tokens in and out of a stream.
    bursts: when they come, as shares of the time that the streams take alone.
    prompts: in a burst.
    prompt_lengths: tokens in and out of each.
    """

    preset: str
    kv_memory: int
    streams: int
    lengths: tuple[int, int]
    bursts: tuple[float, ...]
    prompts: int
    prompt_lengths: tuple[int, int]


FULL = Sizes("0.35b", 640 * 2**20, 8, (64, 320), (0.05, 0.6), 2, (4064, 16))
SHORT = Sizes("tiny", 2**20, 3, (8, 40), (0.1, 0.5), 2, (300, 4))


@dataclass(frozen=True)
class Mixed:
    """Attributes:
    gaps: between the tokens of the streams.
    figures: of streams and prompts.
    """

    gaps: list[float]
    figures: dict[str, float]


def measure(sizes: Sizes, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    limits = {
        "max_num_seqs": sizes.streams + sizes.prompts,
        "kv_memory_bytes": sizes.kv_memory,
    }
    free = int8_engine(sizes.preset, **limits)
    alone = [_alone(free, sizes, rng) for _ in range(4)][1:]  # the first one warms up
    span, gap = (median(values) for values in zip(*alone, strict=True))
    target = TIMES * gap
    engines = {
        WITH: int8_engine(sizes.preset, **limits, target_itl_ms=1000 * target),
        WITHOUT: free,
    }
    results: dict[str, list[Mixed]] = {name: [] for name in engines}
    for done in range(WARM_UPS + rounds):
        for name, core in engines.items():
            results[name].append(_mixed(core, sizes, span, rng))
        report(f"round {done} of {rounds}" if done else "warmed up")
    return {
        "decode_only_gap": gap,
        "target": target,
        "engines": {name: _summary(found[WARM_UPS:]) for name, found in results.items()},
    }


def _alone(core: EngineCore, sizes: Sizes, rng: np.random.Generator) -> tuple[float, float]:
    """Seconds of the streams alone, and the median between their tokens."""
    run = drive(core, _streams(core, sizes, rng))
    return run.seconds, median(gap for one in run.ended for gap in one.gaps)


def _streams(core: EngineCore, sizes: Sizes, rng: np.random.Generator) -> list[Request]:
    requests = random_requests(core, sizes.streams, *sizes.lengths, rng)
    return arriving(requests, [0.0] * sizes.streams)


def _mixed(core: EngineCore, sizes: Sizes, span: float, rng: np.random.Generator) -> Mixed:
    """Streams and bursts, once."""
    streams = _streams(core, sizes, rng)
    times = [span * share for share in sizes.bursts for _ in range(sizes.prompts)]
    prompts = arriving(random_requests(core, len(times), *sizes.prompt_lengths, rng), times)
    run = drive(core, [*streams, *prompts])
    gaps = [gap for one in run.of(streams) for gap in one.gaps]
    figures = {
        "p99_gap": p99(gaps),
        "tokens_per_second": run.tokens_per_second,
        "prompt_ttft": median(one.ttft for one in run.of(prompts)),
    }
    return Mixed(gaps, figures)


def _summary(rounds: Sequence[Mixed]) -> dict[str, Any]:
    return {
        **medians([one.figures for one in rounds]),
        "by_round": [one.figures for one in rounds],
        "gaps": quantiles([gap for one in rounds for gap in one.gaps]),
    }


if __name__ == "__main__":
    Command(
        about="Time between tokens while long prompts are computed.",
        takes="4 minutes",
        full=FULL,
        short=SHORT,
        measure=measure,
    ).main()
