"""What an engine says of itself while it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from vivace.cache.blocks import KVManager
from vivace.cache.prefix import PrefixUse
from vivace.core.request import Request
from vivace.core.stats import STEP_SIZES, EngineStats, PrefixStats, Tally
from vivace.core.step import Step
from vivace.decoding.constraints import Constraints
from vivace.engine.runner import Runner
from vivace.scheduler.scheduler import Scheduler

TOLD_PREFIXES = 8  # of those that saved most


class StepCounts:
    """Of the steps since start.

    Attributes:
        number: how many.
        seconds: all of them took.
        sizes: their tokens.
    """

    def __init__(self) -> None:
        self.number = 0
        self.seconds = 0.0
        self.sizes = Tally(STEP_SIZES)

    def add(self, step: Step, seconds: float) -> None:
        self.number += 1
        self.seconds += seconds
        self.sizes.add(step.num_tokens)


def engine_stats(
    kv: KVManager,
    scheduler: Scheduler,
    runner: Runner,
    constraints: Constraints,
    steps: StepCounts,
) -> EngineStats:
    counters = scheduler.counters
    return EngineStats(
        running=scheduler.num_running,
        waiting=scheduler.num_waiting + constraints.num_waiting,
        pages_used=kv.pages_used,
        pages_total=kv.pages_total,
        prefix_query_tokens=counters.prefix_query_tokens,
        prefix_hit_tokens=counters.prefix_hit_tokens,
        prefix_host_tokens=counters.prefix_host_tokens,
        prefix_disk_tokens=counters.prefix_disk_tokens,
        preemptions=counters.preemptions,
        prompt_tokens=counters.prompt_tokens,
        generation_tokens=counters.generation_tokens,
        steps=steps.number,
        step_seconds=steps.seconds,
        native_seconds=runner.seconds,
        cpu_seconds=time.process_time(),
        step_sizes=steps.sizes.histogram(),
        page_ages=kv.page_ages(),
        pins=kv.pins.ids,
        pages_pinned=kv.pins.num_pages,
        tiers=kv.tier_stats(),
        prefixes=tuple(map(_told_of, kv.most_used(TOLD_PREFIXES))),
        prefetched=kv.ahead.computed,
        prefetched_used=kv.ahead.used,
        prefetched_wasted=kv.ahead.wasted,
        running_adapters=_adapters_of(scheduler.running),
        waiting_adapters=_adapters_of(scheduler.waiting),
    )


def _told_of(use: PrefixUse) -> PrefixStats:
    return PrefixStats(len(use.tokens), use.hits, use.tokens_saved, time.monotonic() - use.last_hit)


def _adapters_of(requests: Sequence[Request]) -> tuple[str, ...]:
    return tuple(sorted({one.adapter for one in requests if one.adapter is not None}))
