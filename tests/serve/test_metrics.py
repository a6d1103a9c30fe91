"""vLLM's names and labels, and what is observed under them."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from vivace.core.request import Delta, Request
from vivace.core.stats import EngineStats, TierStats
from vivace.serve.metrics import ServerMetrics

pytestmark = pytest.mark.tiny

STATS = EngineStats(
    running=2,
    waiting=3,
    pages_used=16,
    pages_total=64,
    prefix_query_tokens=100,
    prefix_hit_tokens=40,
    preemptions=5,
    prompt_tokens=70,
    generation_tokens=80,
    pages_pinned=6,
    tiers=TierStats(
        host_bytes=7,
        disk_bytes=8,
        saved=9,
        restored=10,
        fetched=11,
        fetched_used=12,
        fetched_wasted=13,
        lost=14,
        broken=15,
    ),
)


def samples(metrics: ServerMetrics, stats: EngineStats | None = None) -> dict[str, float]:
    """Value by name, and by name and finish reason where there is one."""
    found = {}
    for family in text_string_to_metric_families(metrics.render(stats).decode()):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("model_name") == "m"
            assert labels.pop("engine") == "0"
            labels.pop("le", None)
            found[" ".join([sample.name, *labels.values()])] = sample.value
    return found


def test_the_engines_own_numbers() -> None:
    found = samples(ServerMetrics("m"), STATS)
    expected = {
        "vllm:num_requests_running": 2,
        "vllm:num_requests_waiting": 3,
        "vllm:kv_cache_usage_perc": 0.25,
        "vllm:prefix_cache_queries_total": 100,
        "vllm:prefix_cache_hits_total": 40,
        "vllm:num_preemptions_total": 5,
        "vllm:prompt_tokens_total": 70,
        "vllm:generation_tokens_total": 80,
        "vivace:kv_pages_pinned": 6,
        "vivace:kv_host_bytes": 7,
        "vivace:kv_disk_bytes": 8,
        "vivace:kv_pages_saved_total": 9,
        "vivace:kv_pages_restored_total": 10,
        "vivace:kv_pages_fetched_total": 11,
        "vivace:kv_pages_fetched_used_total": 12,
        "vivace:kv_pages_fetched_wasted_total": 13,
        "vivace:kv_pages_lost_total": 14,
        "vivace:kv_files_broken_total": 15,
    }
    assert {name: found[name] for name in expected} == expected
    assert not expected.keys() & samples(ServerMetrics("m")).keys()


def test_a_request_is_timed() -> None:
    metrics = ServerMetrics("m")
    watch = metrics.watch(Request("a", (1, 2, 3)))
    watch.saw(Delta("a", token_ids=(4,)))
    watch.saw(Delta("a", token_ids=(5,)))
    watch.saw(Delta("a", token_ids=(6,), finish_reason="stop"))
    watch.close()
    found = samples(metrics)
    assert found["vllm:time_to_first_token_seconds_count"] == 1
    assert found["vllm:inter_token_latency_seconds_count"] == 2
    assert found["vllm:e2e_request_latency_seconds_count"] == 1
    assert found["vllm:request_prompt_tokens_sum"] == 3
    assert found["vllm:request_generation_tokens_sum"] == 3
    assert found["vllm:request_success_total stop"] == 1
    assert found["vllm:request_success_total abort"] == 0


def test_a_request_that_is_left_counts_as_aborted() -> None:
    metrics = ServerMetrics("m")
    watch = metrics.watch(Request("a", (1,)))
    watch.saw(Delta("a", token_ids=(4,)))
    watch.close()
    assert samples(metrics)["vllm:request_success_total abort"] == 1


def test_two_servers_share_nothing() -> None:
    first, second = ServerMetrics("m"), ServerMetrics("m")
    first.watch(Request("a", (1,))).close()
    assert samples(second)["vllm:request_success_total abort"] == 0
