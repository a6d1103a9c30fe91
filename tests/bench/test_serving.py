"""The load driver against vivace's own server: every figure is there, and counted right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vivace.bench.plans import ArrivalPlan, TargetPlan, WorkloadPlan
from vivace.bench.serving import Served, ServePlan, measure_serving
from vivace.bench.serving_metrics import Wanted
from vivace.core.errors import VivaceError

CHAT = "/v1/chat/completions"

# What `vllm bench serve` writes, less what is about speculation.
NAMES = {
    "date",
    "backend",
    "model_id",
    "tokenizer_id",
    "num_prompts",
    "request_rate",
    "burstiness",
    "max_concurrency",
    "duration",
    "completed",
    "failed",
    "total_input_tokens",
    "total_output_tokens",
    "request_throughput",
    "request_goodput",
    "output_throughput",
    "total_token_throughput",
    "max_output_tokens_per_s",
    "max_concurrent_requests",
} | {
    f"{statistic}_{metric}_ms"
    for statistic in ("mean", "median", "std", "p99")
    for metric in ("ttft", "tpot", "itl", "e2el")
}
DETAILS = {
    "input_lens",
    "output_lens",
    "ttfts",
    "itls",
    "latencies",
    "start_times",
    "generated_texts",
    "errors",
}


def drive(
    url: str, workload: WorkloadPlan, arrivals: ArrivalPlan | None = None, **target: Any
) -> Served:
    plan = TargetPlan(base_url=url, ignore_eos=True, **target)
    return measure_serving(ServePlan(plan, workload, arrivals or ArrivalPlan(), Wanted()))


def test_completions_of_token_ids(url: str, model: Path) -> None:
    workload = WorkloadPlan(12, 10, 6, range_ratio=0.5, vocab_size=200)
    run = drive(url, workload, extra_body='{"return_token_ids": true}')
    result = run.detailed()
    assert set(result) >= NAMES | DETAILS
    json.dumps(result, allow_nan=False)
    assert (result["completed"], result["failed"]) == (12, 0)
    assert result["model_id"] == str(model)
    assert (result["backend"], result["request_rate"]) == ("openai", "inf")
    assert result["total_input_tokens"] == sum(result["input_lens"])
    assert result["total_output_tokens"] == sum(result["output_lens"])
    assert set(result["input_lens"]) <= set(range(5, 16))
    assert len(set(result["output_lens"])) > 1
    assert result["output_tokens_counted_by_server"] is True
    for outcome in run.outcomes:  # a chunk for each token, as the token ids were asked for
        assert len(outcome.itls) == outcome.output_len - 1
        assert outcome.latency == pytest.approx(outcome.ttft + sum(outcome.itls))
        assert outcome.start + outcome.latency <= result["duration"]


def test_chats(url: str) -> None:
    run = drive(url, WorkloadPlan(4, 10, 6), endpoint=CHAT)
    assert run.result["backend"] == "openai-chat"
    assert [outcome.error for outcome in run.outcomes] == [None] * 4
    assert run.result["total_output_tokens"] == 24
    assert run.result["input_tokens_known"] is True
    assert all(outcome.input_len for outcome in run.outcomes)


def test_requests_keep_to_their_times_and_limit(url: str) -> None:
    arrivals = ArrivalPlan(request_rate=50.0, burstiness=4.0, max_concurrency=2)
    run = drive(url, WorkloadPlan(20, 10, 6, vocab_size=200), arrivals)
    assert run.result["duration"] >= 20 / 50
    moments = [(outcome.start, 1) for outcome in run.outcomes]
    moments += [(outcome.start + outcome.latency, -1) for outcome in run.outcomes]
    active = most = 0
    for _, change in sorted(moments):
        active += change
        most = max(most, active)
    assert 1 <= most <= 2


def test_requests_that_fail_are_counted_with_their_errors(url: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    lines = [{"prompt": [5, 6], "output_len": 3}, {"prompt": [10**6], "output_len": 3}]
    file.write_text("\n".join(map(json.dumps, [*lines, lines[1], lines[0]])))
    result = drive(url, WorkloadPlan(3, dataset=file)).detailed()
    assert (result["completed"], result["failed"]) == (1, 2)
    assert result["output_lens"] == [3, 0, 0]
    ((error, count),) = result["error_counts"].items()
    assert "token id" in error
    assert count == 2
    assert result["errors"] == ["", error, error]


def test_a_first_request_that_fails_ends_it(url: str) -> None:
    with pytest.raises(VivaceError, match="token id"):
        drive(url, WorkloadPlan(1, 10, 6, vocab_size=10**6))


def test_no_server_is_explained() -> None:
    with pytest.raises(VivaceError, match="--base-url"):
        drive("http://127.0.0.1:9", WorkloadPlan(1))
