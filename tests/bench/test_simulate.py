"""Simulated engines: the clock is right, equal seeds are equal, and a real engine agrees."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vivace.bench.plans import FitPlan, SimulationPlan
from vivace.bench.random_model import PRESETS, write_random_model
from vivace.bench.simulate.fit import fit_profile
from vivace.bench.simulate.measure import replay, simulate
from vivace.bench.simulate.profile import Profile, read_profile, write_profile
from vivace.bench.simulate.trace import TraceRow
from vivace.cache.blocks import KVGroup
from vivace.core.config import EngineConfig
from vivace.core.errors import UsageError
from vivace.engine.build import build_engine, scheduling
from vivace.scheduler.config import PolicyConfig, SchedulerConfig
from vivace.scheduler.step_time import NUM_FEATURES, StepTimes

STEP, TOKEN = 0.010, 0.001  # what a step takes, and each of its tokens after the first


def linear_times() -> StepTimes:
    slopes = NUM_FEATURES - 5
    return StepTimes((STEP, *[TOKEN] * slopes, 0.0, 0.0, 0.0, 0.0))


def profile(**changes: Any) -> Profile:
    limits = SchedulerConfig(max_num_seqs=8, max_num_batched_tokens=100)
    groups, policies = (KVGroup(400),), PolicyConfig()
    made = Profile("on paper", 1000, 4096, 16, groups, True, limits, policies, linear_times())
    return replace(made, **changes)


def row(line: int, arrival: float, prompt: int, answer: int, **more: Any) -> TraceRow:
    made = TraceRow(line, arrival, None, prompt, None, 0, answer)
    return replace(made, **more)


def takes(tokens: int) -> float:
    return STEP + TOKEN * (tokens - 1)


@pytest.mark.tiny
def test_one_request_takes_its_steps() -> None:
    served = simulate(profile(), SimulationPlan(), [row(1, 5.0, 250, 4)])
    (outcome,) = served.outcomes
    first = takes(100) + takes(100) + takes(50)
    assert outcome.start == 5.0
    assert outcome.ttft == pytest.approx(first)
    assert outcome.itls == pytest.approx([takes(1)] * 3)
    assert outcome.latency == pytest.approx(first + 3 * takes(1))
    assert (outcome.input_len, outcome.output_len) == (250, 4)
    assert served.result["duration"] == pytest.approx(5.0 + outcome.latency)
    assert served.result["median_ttft_ms"] == pytest.approx(1000 * first)
    assert served.result["output_throughput"] == pytest.approx(4 / served.result["duration"])


@pytest.mark.tiny
def test_an_arrival_during_a_step_waits_for_the_next() -> None:
    rows = [row(1, 0.0, 100, 2), row(2, 0.001, 40, 1)]
    first, second = simulate(profile(), SimulationPlan(), rows).outcomes
    assert first.ttft == pytest.approx(takes(100))
    together = takes(41)  # a decode beside the second prompt
    assert first.itls == pytest.approx([together])
    assert second.ttft == pytest.approx(takes(100) + together - 0.001)


@pytest.mark.tiny
def test_arrivals_at_one_moment_share_a_step() -> None:
    rows = [row(line, 1.0, 20, 1) for line in range(1, 6)]
    outcomes = simulate(profile(), SimulationPlan(), rows).outcomes
    assert [one.ttft for one in outcomes] == pytest.approx([takes(100)] * 5)


@pytest.mark.tiny
@pytest.mark.parametrize("router", ["round-robin", "least-loaded"])
def test_a_fleet_shares_the_work(router: Any) -> None:
    rows = [row(line, 0.0, 100, 1) for line in range(1, 9)]
    alone = simulate(profile(), SimulationPlan(), rows)
    fleet = simulate(profile(), SimulationPlan(engines=4, router=router), rows)
    assert fleet.result["duration"] == pytest.approx(alone.result["duration"] / 4)


@pytest.mark.tiny
def test_the_least_loaded_engine_is_spared_the_queue_of_round_robin() -> None:
    """Every other request is long: in turn they all meet on one engine."""
    rows = [row(line, 0.05 * line, 10, 200 if line % 2 else 1) for line in range(1, 21)]
    turns = simulate(profile(), SimulationPlan(engines=2, router="round-robin"), rows)
    spread = simulate(profile(), SimulationPlan(engines=2, router="least-loaded"), rows)
    assert spread.result["duration"] < 0.9 * turns.result["duration"]


@pytest.mark.tiny
def test_shared_prefixes_are_computed_once() -> None:
    rows = [row(line, float(line), 170, 1, prefix_id="system", prefix_len=160) for line in (1, 2)]
    served = simulate(profile(), SimulationPlan(), rows)
    first, second = served.outcomes
    assert first.ttft == pytest.approx(takes(100) + takes(70))
    assert second.ttft == pytest.approx(takes(10))
    assert served.result["prefix_hit_tokens"] == 160
    apart = simulate(profile(sharing=False), SimulationPlan(), rows)
    assert apart.outcomes[1].ttft == pytest.approx(first.ttft)


@pytest.mark.tiny
def test_few_pages_preempt_as_they_do_in_an_engine() -> None:
    rows = [row(line, 0.0, 60, 60) for line in range(1, 5)]
    scarce = simulate(profile(groups=(KVGroup(20),)), SimulationPlan(), rows)
    assert scarce.result["preemptions"] > 0
    assert scarce.result["total_output_tokens"] == 240


def mixed_rows(count: int = 40) -> list[TraceRow]:
    rng = np.random.default_rng(0)
    arrivals = np.cumsum(rng.exponential(0.05, count))
    return [
        row(line, float(arrival), int(rng.integers(1, 300)), int(rng.integers(1, 40)))
        for line, arrival in enumerate(arrivals, 1)
    ]


@pytest.mark.tiny
def test_equal_seeds_give_equal_results() -> None:
    noisy = profile(ratios=(0.9, 1.0, 1.1, 2.0))

    def run(seed: int) -> dict[str, Any]:
        return simulate(noisy, SimulationPlan(engines=2, seed=seed), mixed_rows()).result

    assert run(1) == run(1)
    assert run(1) != run(2)


@pytest.mark.tiny
def test_a_target_holds_on_paper_too() -> None:
    plan = SimulationPlan(max_num_batched_tokens=400, max_prefill_beside_decodes=400)
    free = simulate(profile(), plan, mixed_rows()).result
    careful = replace(plan, max_prefill_beside_decodes=48, target_itl_ms=60.0)
    held = simulate(profile(), careful, mixed_rows()).result
    assert free["p99_itl_ms"] > 150
    assert held["p99_itl_ms"] < 1.25 * 60
    assert held["request_goodput"] > 0


@pytest.mark.tiny
def test_policies_are_tried_on_paper() -> None:
    """Two tenants compete for one seat; then urgent requests for that of another."""
    rows = [row(line, 0.0, 20, 10, tenant="ab"[line % 2]) for line in range(1, 9)]

    def ends(plan: SimulationPlan, rows: list[TraceRow] = rows) -> list[float]:
        served = simulate(profile(), replace(plan, max_num_seqs=1), rows)
        return [one.start + one.latency for one in served.outcomes]

    equal, weighted = ends(SimulationPlan()), ends(SimulationPlan(tenant_weights="a=9,b=1"))
    of_a = slice(1, None, 2)  # lines 2, 4, ...
    assert max(weighted[of_a]) < max(equal[of_a])
    assert max(weighted) == pytest.approx(max(equal))
    urgent = [row(line, 0.01 * line, 20, 10, priority=-1) for line in range(2, 9)]
    rows = [row(1, 0.0, 20, 10), *urgent]
    assert np.argmax(ends(SimulationPlan(), rows)) == 0
    assert np.argmax(ends(SimulationPlan(max_wait_seconds=0.05), rows)) > 0


@pytest.mark.tiny
def test_a_full_queue_is_tried_on_paper() -> None:
    rows = [row(line, 0.0, 20, 10) for line in range(1, 9)]
    limits: list[dict[str, Any]] = [{"max_queued_requests": 3}, {"max_queued_tokens": 60}]
    for limit in limits:
        result = simulate(profile(), SimulationPlan(**limit), rows).result
        assert (result["completed"], result["failed"]) == (3, 5)


@pytest.mark.tiny
def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^Line 7 of the trace needs 5000 tokens, but the"):
        simulate(profile(), SimulationPlan(), [row(7, 0.0, 4000, 1000)])
    with pytest.raises(UsageError, match="token id above 999"):
        simulate(profile(), SimulationPlan(), [row(1, 0.0, 1, 1, prompt_tokens=(1000,))])
    rows = [row(1, 0.0, 900, 1), row(2, 0.0, 9, 1)]
    result = simulate(profile(groups=(KVGroup(20),)), SimulationPlan(), rows).result
    assert (result["completed"], result["failed"]) == (1, 1)


@pytest.mark.tiny
def test_a_profile_returns_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "engine.json"
    policies = PolicyConfig(None, {"a": 2.0}, max_queued_tokens=500)
    groups = (KVGroup(400), KVGroup(30, 64))
    made = profile(groups=groups, ratios=(0.5, 1.5), policies=policies)
    write_profile(file, made)
    assert read_profile(file) == made


@pytest.mark.tiny
@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 1}', '{"version": 2}'])
def test_what_is_no_profile_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "engine.json"
    file.write_text(content)
    with pytest.raises(UsageError, match="profile"):
        read_profile(file)


@pytest.mark.tiny
def test_a_profile_of_other_features_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "engine.json"
    write_profile(file, profile())
    content = json.loads(file.read_text())
    content["times"]["coefficients"].pop()
    file.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="make it with bench fit"):
        read_profile(file)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> EngineConfig:
    folder = write_random_model(tmp_path_factory.mktemp("model"), PRESETS["tiny"])
    limits: Any = {"max_num_batched_tokens": 64, "max_num_seqs": 4}
    return EngineConfig(str(folder), backend="reference", **limits)


def test_a_real_engine_makes_the_same_steps(config: EngineConfig) -> None:
    """All at once, so that nothing hangs on time: the counts agree, and the profile is usable."""
    core = build_engine(config)
    fitted = fit_profile(core, config, FitPlan(num_iters=1, context=64))
    assert fitted.limits == scheduling(config)
    assert sum(group.num_pages for group in fitted.groups) == core.info.num_pages
    assert fitted.ratios == tuple(sorted(fitted.ratios))
    assert core.stats().pages_used == 0
    rows = [
        row(line, 0.0, 20 * line, 5, prefix_id="same", prefix_len=16, tenant="a")
        for line in range(1, 6)
    ]
    real = replay(core, scheduling(config), rows)
    paper = simulate(fitted, SimulationPlan(), rows)
    counts = ("completed", "total_input_tokens", "total_output_tokens", "prefix_hit_tokens")
    assert {name: real.result[name] for name in counts} == {
        name: paper.result[name] for name in counts
    }
    assert set(real.result) < set(paper.result)
    order = [np.argsort([one.ttft for one in served.outcomes]) for served in (real, paper)]
    assert order[0].tolist() == order[1].tolist()


def test_a_replay_waits_for_arrivals(config: EngineConfig) -> None:
    core = build_engine(config)
    rows = [row(1, 0.0, 5, 2), row(2, 0.3, 5, 2)]
    served = replay(core, scheduling(config), rows)
    assert served.result["duration"] > 0.3
    assert all(0 < one.ttft < one.latency for one in served.outcomes)
