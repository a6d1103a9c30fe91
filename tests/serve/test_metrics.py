"""vLLM's names and labels, and what is observed under them."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.serve.scripted import info
from vivace.core.errors import OverloadedError
from vivace.core.request import Delta, Request
from vivace.core.sampling import SamplingParams
from vivace.core.sight import Sight
from vivace.core.stats import (
    PAGE_SECONDS,
    STEP_SIZES,
    EngineStats,
    Histogram,
    PageAges,
    TierStats,
)
from vivace.decoding.sampler import InvalidLogitsError
from vivace.hardware.energy import EnergyMeter
from vivace.serve.metrics import ServerMetrics
from vivace.serve.process_metrics import ProcessMetrics

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
    prefix_host_tokens=20,
    prefix_disk_tokens=5,
    steps=6,
    step_seconds=1.5,
    native_seconds=1.25,
    cpu_seconds=2.5,
    step_sizes=Histogram(STEP_SIZES, (3, 0, 2, *[0] * 10, 1), 95),
    page_ages=PageAges(
        lifetime=Histogram(PAGE_SECONDS, (2, *[0] * 21), 0.001),
        idle=Histogram(PAGE_SECONDS, (1, *[0] * 21), 0.0005),
        reuse_gap=Histogram(PAGE_SECONDS, (*[0] * 21, 1), 3600),
    ),
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
        "vllm:num_requests_waiting_by_reason capacity": 3,
        "vllm:num_requests_waiting_by_reason deferred": 0,
        "vllm:iteration_tokens_total_count": 6,
        "vllm:iteration_tokens_total_sum": 95,
        "vllm:kv_block_lifetime_seconds_count": 2,
        "vllm:kv_block_lifetime_seconds_sum": 0.001,
        "vllm:kv_block_idle_before_evict_seconds_count": 1,
        "vllm:kv_block_reuse_gap_seconds_sum": 3600,
        "vllm:prompt_tokens_cached_by_source_total device": 15,
        "vllm:prompt_tokens_cached_by_source_total host": 20,
        "vllm:prompt_tokens_cached_by_source_total disk": 5,
        "vllm:external_prefix_cache_queries_total": 85,
        "vllm:external_prefix_cache_hits_total": 25,
        "vivace:cpu_seconds_total engine": 2.5,
        "vivace:steps_total": 6,
        "vivace:step_seconds_total": 1.5,
        "vivace:native_seconds_total": 1.25,
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


def test_steps_are_counted_by_size() -> None:
    text = ServerMetrics("m").render(STATS).decode()
    families = text_string_to_metric_families(text)
    (family,) = (one for one in families if one.name == "vllm:iteration_tokens_total")
    counts = {
        sample.labels["le"]: sample.value
        for sample in family.samples
        if sample.name.endswith("_bucket")
    }
    assert (counts["1.0"], counts["8.0"], counts["16.0"], counts["16384.0"]) == (3, 3, 5, 5)
    assert counts["+Inf"] == 6


def test_a_request_is_timed() -> None:
    metrics = ServerMetrics("m")
    watch = metrics.watch(Request("a", (1, 2, 3), SamplingParams(max_tokens=9)))
    watch.saw(Delta("a", token_ids=(4,), num_cached_tokens=2, queue_seconds=0.25))
    watch.saw(Delta("a", token_ids=(5,)))
    watch.saw(Delta("a", token_ids=(6,), finish_reason="stop"))
    watch.close()
    found = samples(metrics)
    assert found["vllm:time_to_first_token_seconds_count"] == 1
    assert found["vllm:inter_token_latency_seconds_count"] == 2
    assert found["vllm:e2e_request_latency_seconds_count"] == 1
    assert found["vllm:request_time_per_output_token_seconds_count"] == 1
    assert found["vllm:request_queue_time_seconds_sum"] == 0.25
    for phase in ("prefill", "decode", "inference"):
        assert found[f"vllm:request_{phase}_time_seconds_count"] == 1
    assert found["vllm:request_prompt_tokens_sum"] == 3
    assert found["vllm:request_generation_tokens_sum"] == 3
    assert found["vllm:request_params_max_tokens_sum"] == 9
    assert found["vllm:request_prefill_kv_computed_tokens_sum"] == 1
    assert found["vllm:prompt_tokens_cached_total"] == 2
    assert found["vllm:prompt_tokens_by_source_total local_compute"] == 1
    assert found["vllm:prompt_tokens_by_source_total local_cache_hit"] == 2
    assert found["vllm:request_success_total stop"] == 1
    assert found["vllm:request_success_total abort"] == 0


def test_a_request_that_drew_nothing_has_no_phases() -> None:
    metrics = ServerMetrics("m")
    watch = metrics.watch(Request("a", (1,)))
    watch.saw(Delta("a", finish_reason="deadline"))
    watch.close()
    found = samples(metrics)
    assert found["vllm:request_success_total deadline"] == 1
    assert found["vllm:request_prefill_time_seconds_count"] == 0


REFUSALS = [
    (OverloadedError("Full.", 1, "max_num_queued_reqs"), "admission_rejections", "reqs"),
    (OverloadedError("Full.", 1, "max_num_queued_tokens"), "admission_rejections", "tokens"),
    (InvalidLogitsError(["a"]), "corrupted_requests", ""),
]


@pytest.mark.parametrize(("error", "name", "reason"), REFUSALS, ids=str)
def test_what_went_wrong_is_counted(error: Exception, name: str, reason: str) -> None:
    metrics = ServerMetrics("m")
    watch = metrics.watch(Request("a", (1,)))
    watch.saw(Delta.failed("a", error))
    watch.close()
    counted = {key: value for key, value in samples(metrics).items() if f":{name}_total" in key}
    for key, value in counted.items():
        assert value == key.endswith(reason), key


def test_choices_are_counted_by_prompt() -> None:
    metrics = ServerMetrics("m")
    call = metrics.watch_call([Request(str(number), (1,), index=number % 3) for number in range(6)])
    for place in (0, 1, 1, 4, 5, 5, 5):
        call.saw(place, Delta(str(place), token_ids=(7,)))
    call.close()
    found = samples(metrics)
    assert (found["vllm:request_params_n_count"], found["vllm:request_params_n_sum"]) == (2, 6)
    assert found["vllm:request_max_num_generation_tokens_count"] == 2
    assert found["vllm:request_max_num_generation_tokens_sum"] == 2 + 3


def test_time_in_the_queue_is_told_by_priority() -> None:
    metrics = ServerMetrics("m")
    for name, priority in (("a", 2), ("b", 99), ("c", -(10**9))):
        watch = metrics.watch(Request(name, (1,), priority=priority))
        watch.saw(Delta(name, (4,), finish_reason="stop", queue_seconds=0.5, num_preemptions=3))
        watch.close()
    found = samples(metrics)
    for label in ("2", "10", "-10"):
        assert found[f"vivace:request_queue_time_by_priority_seconds_sum {label}"] == 0.5
    assert found["vllm:request_num_preemptions_sum"] == 9


def test_listeners_hear_of_each_request_once() -> None:
    metrics, heard = ServerMetrics("m"), []
    metrics.listeners.append(heard.append)
    watch = metrics.watch(Request("a", (1, 2)))
    watch.saw(Delta("a", (4, 5), num_cached_tokens=1, queue_seconds=0.0))
    watch.saw(Delta("a", finish_reason="deadline"))
    watch.close()
    (one,) = heard
    assert (one.reason, one.num_tokens, one.num_cached_tokens) == ("deadline", 2, 1)
    assert 0 <= one.first <= one.last <= one.e2e


def test_facts_of_the_cache() -> None:
    text = ServerMetrics("m", info()).render(None).decode()
    (line,) = (line for line in text.splitlines() if line.startswith("vllm:cache_config_info{"))
    assert 'block_size="16"' in line
    assert 'num_gpu_blocks="64"' in line
    assert 'cache_dtype="float32"' in line
    assert 'kv_eviction="none"' in line


def test_facts_of_pages_that_are_packed_and_given_back() -> None:
    facts = info(kv_cache_dtype="int8", sight=Sight(1024, 4))
    text = ServerMetrics("m", facts).render(None).decode()
    assert 'cache_dtype="int8"' in text
    assert 'kv_eviction="sinks:1024:4"' in text


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


def test_energy_is_told_where_the_machine_counts_it(tmp_path: Path) -> None:
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "name").write_text("package-0")
    (zone / "energy_uj").write_text("1000000")
    process = ProcessMetrics(EnergyMeter(tmp_path))
    (zone / "energy_uj").write_text("3500000")
    _, family = process.collect()
    (sample,) = family.samples
    assert (sample.name, sample.labels) == ("vivace:energy_joules_total", {"domain": "package-0"})
    assert sample.value == 2.5
    (seconds,) = ProcessMetrics(EnergyMeter(tmp_path / "none")).collect()
    assert seconds.name == "vivace:cpu_seconds"


# Those of vLLM's that mean something here; dashboards and routers ask for them by these names.
NAMES = [
    "num_requests_running",
    "num_requests_waiting",
    "num_requests_waiting_by_reason",
    "kv_cache_usage_perc",
    "cache_config_info",
    "prompt_tokens",
    "generation_tokens",
    "prompt_tokens_by_source",
    "prompt_tokens_cached",
    "prefix_cache_queries",
    "prefix_cache_hits",
    "num_preemptions",
    "request_success",
    "admission_rejections",
    "corrupted_requests",
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "request_time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
    "request_inference_time_seconds",
    "request_prompt_tokens",
    "request_generation_tokens",
    "request_params_n",
    "request_params_max_tokens",
    "request_max_num_generation_tokens",
    "request_num_preemptions",
    "prompt_tokens_cached_by_source",
    "external_prefix_cache_queries",
    "external_prefix_cache_hits",
    "kv_block_lifetime_seconds",
    "kv_block_idle_before_evict_seconds",
    "kv_block_reuse_gap_seconds",
    "request_prefill_kv_computed_tokens",
    "iteration_tokens_total",
]


def test_every_name_is_there() -> None:
    text = ServerMetrics("m", info()).render(STATS).decode()
    found = {family.name for family in text_string_to_metric_families(text)}
    assert {f"vllm:{name}" for name in NAMES} <= found
