"""`bench simulate` and `bench replay`: the same trace on paper and on a real engine."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vivace.bench.plans import SimulationPlan
from vivace.bench.run import random_requests, run_requests
from vivace.bench.serving import Served
from vivace.bench.serving_metrics import METRICS, Wanted
from vivace.bench.simulate.fleet import ROUTERS, SimulatedEngine, run_fleet
from vivace.bench.simulate.profile import Profile
from vivace.bench.simulate.recorder import Recorder
from vivace.bench.simulate.trace import TraceRow, begun, make_requests
from vivace.core.config import parse_weights
from vivace.core.errors import OverloadedError, RequestError
from vivace.core.request import Request
from vivace.engine.core import EngineCore
from vivace.scheduler.config import SchedulerConfig, SchedulerCounters

Report = Callable[[int, int], None]
PERCENTILES = (50.0, 90.0, 99.0)


def simulate(profile: Profile, plan: SimulationPlan, rows: Sequence[TraceRow]) -> Served:
    """A trace on a fleet of engines like the profiled one. Equal seeds give equal results.

    Raises:
        UsageError: a request does not fit the model, or a limit is out of range.
    """
    profile = _as_planned(profile, plan)
    requests = make_requests(rows, profile.vocab_size, profile.max_model_len)
    seeds = np.random.SeedSequence(plan.seed).spawn(plan.engines)
    engines = [SimulatedEngine(profile, np.random.default_rng(seed)) for seed in seeds]
    recorder = run_fleet(engines, ROUTERS[plan.router](), requests)
    counters = [engine.scheduler.counters for engine in engines]
    head = {"engines": plan.engines, "router": plan.router}
    result = recorder.result(profile.model, _wanted(profile.limits))
    return Served({**head, **result, **_counts(counters)}, recorder.outcomes())


def replay(
    core: EngineCore,
    limits: SchedulerConfig,
    rows: Sequence[TraceRow],
    report: Report | None = None,
) -> Served:
    """A trace on a real engine in this process, after a request of its own to warm up.

    Args:
        limits: with the targets that requests are counted by.

    Raises:
        UsageError: a request does not fit the model.
    """
    run_requests(core, random_requests(core, 1, 16, 4, np.random.default_rng(0)))
    before = replace(core.scheduler.counters)
    requests = make_requests(rows, core.info.vocab_size, core.info.max_model_len)
    began = time.monotonic()
    recorder = _replay(core, [begun(one, began) for one in requests], began, report)
    counts = _counts([_since(before, core.scheduler.counters)])
    result = recorder.result(core.info.model_name, _wanted(limits))
    return Served({**result, **counts}, recorder.outcomes())


def _replay(
    core: EngineCore, requests: Sequence[Request], began: float, report: Report | None
) -> Recorder:
    recorder = Recorder(requests, began)
    arrivals = deque(requests)
    while arrivals or core.has_work:
        while arrivals and arrivals[0].arrival <= time.monotonic():
            _send(arrivals.popleft(), core, recorder)
        if core.has_work:
            recorder.take(core.step(), time.monotonic())
        elif arrivals:
            time.sleep(max(0.0, arrivals[0].arrival - time.monotonic()))
        if report is not None:
            report(recorder.num_finished, len(requests))
    return recorder


def _send(request: Request, core: EngineCore, recorder: Recorder) -> None:
    try:
        core.add(request)
    except (OverloadedError, RequestError) as error:
        recorder.refuse(request, error)


def _as_planned(profile: Profile, plan: SimulationPlan) -> Profile:
    """With what the plan sets otherwise."""
    asked = {name: value for name, value in vars(plan).items() if value is not None}
    if plan.tenant_weights is not None:
        asked["tenant_weights"] = parse_weights(plan.tenant_weights)
    limits = {name: asked[name] for name in vars(profile.limits) if name in asked}
    policies = {name: asked[name] for name in vars(profile.policies) if name in asked}
    return replace(
        profile,
        limits=replace(profile.limits, **limits),
        policies=replace(profile.policies, **policies),
    )


def _wanted(limits: SchedulerConfig) -> Wanted:
    """Targets are what goodput counts by."""
    targets = {"ttft": limits.target_ttft_ms, "tpot": limits.target_itl_ms}
    objectives = {name: target for name, target in targets.items() if target is not None}
    return Wanted(METRICS, PERCENTILES, objectives or None)


def _counts(counters: Sequence[SchedulerCounters]) -> dict[str, Any]:
    names = ("preemptions", "prefix_query_tokens", "prefix_hit_tokens")
    return {name: sum(getattr(one, name) for one in counters) for name in names}


def _since(before: SchedulerCounters, now: SchedulerCounters) -> SchedulerCounters:
    grown = {name: value - getattr(before, name) for name, value in vars(now).items()}
    return SchedulerCounters(**grown)
