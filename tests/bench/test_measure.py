"""What the measuring commands count, on an engine that runs for real."""

from __future__ import annotations

import numpy as np
import pytest

from vivace.bench.measure import measure_latency, measure_throughput
from vivace.bench.plans import LatencyPlan, ThroughputPlan
from vivace.bench.random_model import PRESETS, write_random_model
from vivace.bench.run import random_requests, run_requests
from vivace.core.config import EngineConfig
from vivace.engine.build import build_engine
from vivace.engine.core import EngineCore


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> EngineCore:
    folder = write_random_model(tmp_path_factory.mktemp("model"), PRESETS["tiny"])
    return build_engine(EngineConfig(str(folder), backend="reference", max_num_batched_tokens=64))


def test_a_run_counts_tokens_and_time(core: EngineCore) -> None:
    requests = random_requests(core, 3, 40, 5, np.random.default_rng(0))
    run = run_requests(core, requests)
    assert (run.num_requests, run.prompt_tokens, run.output_tokens) == (3, 120, 15)
    assert set(run.first_tokens) == {request.request_id for request in requests}
    # 120 prompt tokens at 64 a step: the first request draws its second token beside the others'
    # prompts, so its first decode steps are not pure.
    assert 0 < run.decode_tokens < 12
    assert run.prefill_seconds + run.decode_seconds == pytest.approx(run.elapsed)
    assert sum(step.tokens for step in run.steps) == 15
    assert max(step.sequences for step in run.steps) == 3
    assert run.steps[-1].end == run.elapsed


def test_a_single_request_decodes_all_but_its_first_token(core: EngineCore) -> None:
    run = run_requests(core, random_requests(core, 1, 8, 6, np.random.default_rng(0)))
    assert run.decode_tokens == 5
    (first,) = run.first_tokens.values()
    assert first == pytest.approx(run.prefill_seconds)


def test_prompts_differ_between_calls(core: EngineCore) -> None:
    rng = np.random.default_rng(0)
    first, second = (random_requests(core, 2, 8, 1, rng) for _ in range(2))
    prompts = {request.prompt_token_ids for request in first + second}
    assert len(prompts) == len({request.request_id for request in first + second}) == 4


def test_latency_reports_every_iteration(core: EngineCore) -> None:
    reports: list[tuple[int, int]] = []
    plan = LatencyPlan(input_len=8, output_len=3, batch_size=2, num_iters=2, num_iters_warmup=1)
    result = measure_latency(core, plan, 0, lambda done, total: reports.append((done, total)))
    assert reports == [(1, 3), (2, 3), (3, 3)]
    assert len(result["latencies"]) == 2
    assert min(result["latencies"]) <= result["percentiles"]["50"] <= max(result["latencies"])


def test_throughput_without_a_decode_step_has_no_decode_rate(core: EngineCore) -> None:
    plan = ThroughputPlan(input_len=8, output_len=1, num_prompts=2)
    result, run = measure_throughput(core, plan, 0)
    assert result["decode_tokens_per_second"] is None
    assert result["total_num_tokens"] == 18
    assert [step.tokens for step in run.steps] == [2]


def test_nothing_is_left_behind(core: EngineCore) -> None:
    assert core.stats().pages_used == 0
