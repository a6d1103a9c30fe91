"""/metrics of a real server: names, types, and that counters move by what was done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from safetensors.numpy import load_file, save_file

from tests.serve.checkpoint import write_tiny_chat_model
from tests.serve.commanded import commanded, sample_values
from tests.serve.dashboard import asked_metrics, names
from tests.serve.scripted import wait_until

POISON = 7  # a token whose embedding is not a number
LENGTH = 40
# What only some machines count, and what only models with a canary have.
SOMETIMES = {"vivace:energy_joules_total", "vivace:canary_kl_nats"}

TYPES = {
    "gauge": """num_requests_running num_requests_waiting num_requests_waiting_by_reason
        kv_cache_usage_perc cache_config_info""",
    "counter": """prompt_tokens generation_tokens prompt_tokens_by_source prompt_tokens_cached
        prompt_tokens_cached_by_source prefix_cache_queries prefix_cache_hits
        external_prefix_cache_queries external_prefix_cache_hits num_preemptions request_success
        admission_rejections corrupted_requests tool_call_parser_invocations""",
    "histogram": """time_to_first_token_seconds inter_token_latency_seconds
        request_time_per_output_token_seconds e2e_request_latency_seconds
        request_queue_time_seconds request_prefill_time_seconds request_decode_time_seconds
        request_inference_time_seconds request_prompt_tokens request_generation_tokens
        request_max_num_generation_tokens request_params_n request_params_max_tokens
        request_num_preemptions request_prefill_kv_computed_tokens iteration_tokens_total
        kv_block_lifetime_seconds kv_block_idle_before_evict_seconds kv_block_reuse_gap_seconds""",
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = write_tiny_chat_model(tmp_path_factory.mktemp("poisoned"))
    tensors = load_file(model / "model.safetensors")
    tensors["model.embed_tokens.weight"][POISON] = np.nan
    save_file(tensors, model / "model.safetensors")
    log = tmp_path_factory.mktemp("log") / "log"
    flags = ("--max-queued-tokens", 300, "--max-num-seqs", 1, "--kv-memory", "256KiB")
    with commanded(model, log, *flags) as server:
        yield server.url


def scrape(url: str) -> dict[str, float]:
    return sample_values(httpx.get(f"{url}/metrics").text)


def ask(url: str, prompt: list[int], **fields: object) -> httpx.Response:
    with httpx.Client(timeout=60) as client:
        return ask_with(client, url, prompt, **fields)


def ask_with(client: httpx.Client, url: str, prompt: list[int], **fields: object) -> httpx.Response:
    body = {"prompt": prompt, "temperature": 0, "ignore_eos": True, "max_tokens": 5, **fields}
    return client.post(f"{url}/v1/completions", json=body)


def moved(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """What changed by whole numbers, and by how much."""
    grown = {name: value - before.get(name, 0) for name, value in after.items()}
    return {n: by for n, by in grown.items() if by and not ("seconds" in n and "_sum" in n)}


def test_every_name_has_its_type(url: str) -> None:
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    types = {family.name: family.type for family in families}
    for kind, words in TYPES.items():
        for name in words.split():
            assert types[f"vllm:{name}"] == kind, name


def test_gaps_below_ten_milliseconds_are_told_apart(url: str) -> None:
    text = httpx.get(f"{url}/metrics").text
    (family,) = (
        one
        for one in text_string_to_metric_families(text)
        if one.name == "vllm:inter_token_latency_seconds"
    )
    bounds = {float(s.labels["le"]) for s in family.samples if s.name.endswith("_bucket")}
    assert len([bound for bound in bounds if bound < 0.01]) >= 5


def test_counters_move_by_what_was_done(url: str) -> None:
    prompt = [20 + place % 100 for place in range(LENGTH)]
    before = scrape(url)
    assert ask(url, prompt, priority=3).status_code == 200
    first = scrape(url)
    by = moved(before, first)
    expected = {
        "vllm:prompt_tokens_total": LENGTH,
        "vllm:generation_tokens_total": 5,
        "vllm:prefix_cache_queries_total": LENGTH,
        "vllm:external_prefix_cache_queries_total": LENGTH,
        "vllm:prompt_tokens_by_source_total local_compute": LENGTH,
        "vllm:request_success_total length": 1,
        "vllm:time_to_first_token_seconds_count": 1,
        "vllm:inter_token_latency_seconds_count": 4,
        "vllm:e2e_request_latency_seconds_count": 1,
        "vllm:request_prompt_tokens_sum": LENGTH,
        "vllm:request_generation_tokens_sum": 5,
        "vllm:request_max_num_generation_tokens_sum": 5,
        "vllm:request_prefill_kv_computed_tokens_sum": LENGTH,
        "vllm:iteration_tokens_total_sum": LENGTH + 4,
        "vllm:iteration_tokens_total_count": 5,
        "vllm:request_params_n_sum": 1,
        "vivace:request_queue_time_by_priority_seconds_count 3": 1,
        "vivace:steps_total": 5,
    }
    assert {name: by.get(name) for name in expected} == expected
    assert by["vivace:cpu_seconds_total engine"] > 0
    assert by["vivace:cpu_seconds_total server"] > 0


def test_a_known_prompt_counts_as_cached_on_the_device(url: str) -> None:
    prompt = [30 + place % 100 for place in range(LENGTH)]
    ask(url, prompt)
    before = scrape(url)
    ask(url, prompt)
    by = moved(before, scrape(url))
    cached = LENGTH // 16 * 16
    for name in (
        "vllm:prefix_cache_hits_total",
        "vllm:prompt_tokens_cached_total",
        "vllm:prompt_tokens_cached_by_source_total device",
        "vllm:prompt_tokens_by_source_total local_cache_hit",
    ):
        assert by[name] == cached, name
    assert by["vllm:external_prefix_cache_queries_total"] == LENGTH - cached
    assert "vllm:prompt_tokens_cached_by_source_total host" not in by
    assert by["vllm:kv_block_reuse_gap_seconds_count"] >= cached // 16


def test_what_is_no_number_ends_its_request_and_counts(url: str) -> None:
    before = scrape(url)
    answer = ask(url, [20, POISON, 21])
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "corrupted_output"
    by = moved(before, scrape(url))
    assert by["vllm:corrupted_requests_total"] == 1
    assert by["vllm:request_success_total error"] == 1
    assert ask(url, [20, 22, 21]).status_code == 200


@contextmanager
def busy(url: str) -> Iterator[httpx.Client]:
    """A client that is ready while a call keeps the only seat for thousands of tokens; behind it
    the call has ended."""
    prompts = [[40] * 20] * 10
    body = {"prompt": prompts, "max_tokens": 300, "ignore_eos": True, "stream": True}
    with httpx.Client(timeout=60) as client:  # making one takes longer than many tokens
        assert client.get(f"{url}/ready").status_code == 200
        with client.stream("POST", f"{url}/v1/completions", json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            yield client
            assert [line for line in lines if line][-1] == "data: [DONE]"
    waiting = ("vllm:num_requests_running", "vllm:num_requests_waiting")
    wait_until(lambda: not any(scrape(url)[name] for name in waiting), 60)


def test_a_refusal_counts_by_its_reason(url: str) -> None:
    before = scrape(url)
    with busy(url) as client:
        assert ask_with(client, url, [50] * 200).status_code == 429
    by = moved(before, scrape(url))
    assert by["vllm:admission_rejections_total max_num_queued_tokens"] == 1


def test_an_urgent_request_preempts_and_both_are_counted(url: str) -> None:
    before = scrape(url)
    with busy(url) as client:
        assert ask_with(client, url, [41] * 20, priority=-1).status_code == 200
    by = moved(before, scrape(url))
    assert by["vllm:num_preemptions_total"] == 1
    assert by["vllm:request_num_preemptions_sum"] == 1
    assert by["vivace:request_queue_time_by_priority_seconds_count -1"] == 1


def test_pages_that_give_way_leave_their_ages(url: str) -> None:
    before = scrape(url)
    for start in range(6):  # more than all pages hold
        assert ask(url, [start + 20] * 250, max_tokens=1).status_code == 200
    by = moved(before, scrape(url))
    assert by["vllm:kv_block_lifetime_seconds_count"] > 0
    assert (
        by["vllm:kv_block_idle_before_evict_seconds_count"]
        == by["vllm:kv_block_lifetime_seconds_count"]
    )


def test_every_metric_of_the_dashboard_is_there(url: str) -> None:
    assert ask(url, [20, 21]).status_code == 200
    there = names(httpx.get(f"{url}/metrics").text)
    asked = asked_metrics()
    assert asked - there - SOMETIMES == set()
    assert len(asked) > 20
