"""`bench serve`: drives a server, whoever made it, and measures what its clients would see."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import inf
from time import perf_counter
from typing import Any

import numpy as np

from vivace.bench.arrivals import arrival_times
from vivace.bench.client import CHAT, OpenAIClient
from vivace.bench.drive import Drive
from vivace.bench.outcome import Outcome
from vivace.bench.plans import ArrivalPlan, TargetPlan, WorkloadPlan
from vivace.bench.prompts import make_prompts
from vivace.bench.serving_metrics import Wanted, detailed, summarize

Report = Callable[[int, int], None]
NUM_WARMUPS = 1  # a prompt of its own, so that no prefix is cached
WARMUP_TOKENS = 16
FINITE = {inf: "inf"}  # JSON has no infinity


@dataclass(frozen=True)
class ServePlan:
    """All that a run against a server is told; model None is the first that it lists."""

    target: TargetPlan
    workload: WorkloadPlan
    arrivals: ArrivalPlan
    wanted: Wanted = field(default_factory=Wanted)
    model: str | None = None


@dataclass(frozen=True)
class Served:
    """Attributes:
    result: the figures, under vLLM's names and a few of our own.
    outcomes: of each request.
    """

    result: dict[str, Any]
    outcomes: list[Outcome]

    def detailed(self) -> dict[str, Any]:
        """The figures, and every request's own."""
        return {**self.result, **detailed(self.outcomes)}


def measure_serving(plan: ServePlan, report: Report | None = None) -> Served:
    """Send all requests and wait for their answers. Failed requests are counted, with errors.

    Raises:
        VivaceError: the server cannot be reached, or failed the request before the clock ran.
    """
    return asyncio.run(_measure(plan, report))


async def _measure(plan: ServePlan, report: Report | None) -> Served:
    rng = np.random.default_rng(plan.workload.seed)
    is_chat = plan.target.endpoint == CHAT
    one_more = replace(plan.workload, num_prompts=plan.workload.num_prompts + NUM_WARMUPS)
    *prompts, warm_up = make_prompts(one_more, is_chat, rng)
    warm_up = replace(warm_up, output_len=min(warm_up.output_len, WARMUP_TOKENS))
    times = arrival_times(plan.arrivals, len(prompts), rng).tolist()
    async with OpenAIClient(plan.target) as client:
        model = plan.model or await client.first_model()
        await client.warm_up(warm_up, model)
        bodies = [client.body(prompt, model) for prompt in prompts]

        async def send(index: int, started: float) -> Outcome:
            return await client.send(bodies[index], prompts[index].input_len, started)

        drive = Drive(send, plan.arrivals.max_concurrency, report)
        with _small_collections():
            cpu, started = time.process_time(), perf_counter()
            outcomes = await drive.run(times)
            duration, cpu = perf_counter() - started, time.process_time() - cpu
    head = _head(plan, model)
    figures = summarize(outcomes, duration, plan.wanted)
    return Served({**head, **figures, **_ours(outcomes, cpu, duration)}, outcomes)


@contextmanager
def _small_collections() -> Iterator[None]:
    """Garbage is looked for among new objects only: else a collection looks like a slow token."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _head(plan: ServePlan, model: str) -> dict[str, Any]:
    arrivals = plan.arrivals
    head = {
        "date": datetime.now().strftime("%Y%m%d-%H%M%S"),
        "backend": "openai-chat" if plan.target.endpoint == CHAT else "openai",
        "base_url": plan.target.base_url,
        "model_id": model,
        "tokenizer_id": None if plan.workload.tokenizer is None else str(plan.workload.tokenizer),
        "num_prompts": plan.workload.num_prompts,
        "request_rate": FINITE.get(arrivals.request_rate, arrivals.request_rate),
        "burstiness": FINITE.get(arrivals.burstiness, arrivals.burstiness),
        "max_concurrency": arrivals.max_concurrency,
    }
    if arrivals.ramp_up_strategy is not None:
        names = ("ramp_up_strategy", "ramp_up_start_rps", "ramp_up_end_rps")
        head |= {name: getattr(arrivals, name) for name in names}
    return head


def _ours(outcomes: Sequence[Outcome], cpu: float, duration: float) -> dict[str, Any]:
    done = [outcome for outcome in outcomes if outcome.error is None]
    errors = Counter(outcome.error for outcome in outcomes if outcome.error is not None)
    return {
        "output_tokens_counted_by_server": all(outcome.counted for outcome in done),
        "input_tokens_known": all(outcome.input_len is not None for outcome in done),
        "client_cpu_share": cpu / duration,
        "error_counts": dict(errors.most_common()),
    }
