"""generate, inspect and bench on tiny models, end to end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from program import Result, Vivace

REFERENCE = ("--backend", "reference")


def answer(result: Result) -> dict[str, Any]:
    """The one JSON object that a command printed."""
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert isinstance(found, dict)
    return found


def test_generate_prints_the_text_alone(vivace: Vivace, text_model: Path) -> None:
    flags = ("--prompt", "ab", "--max-tokens", 5, "--seed", 4, *REFERENCE)
    printed = vivace("generate", text_model, *flags)
    result = answer(vivace("generate", text_model, *flags, "--json"))
    assert printed.out == result["text"] + "\n"
    assert len(result["token_ids"]) == 5
    assert result["finish_reason"] == "length"
    assert 0 < result["ttft_seconds"] <= result["elapsed_seconds"]


def test_a_seed_fixes_the_text(vivace: Vivace, text_model: Path) -> None:
    def text(seed: int) -> str:
        flags = ("--prompt", "ab", "--max-tokens", 20, "--temperature", 1, "--seed", seed)
        return vivace("generate", text_model, *flags, *REFERENCE).out

    assert text(1) == text(1)
    assert text(1) != text(2)


def test_a_model_without_a_tokenizer_is_explained(vivace: Vivace, bare_model: Path) -> None:
    result = vivace("generate", bare_model, "--prompt", "x", *REFERENCE)
    assert (result.code, result.out) == (2, "")
    assert "tokenizer" in result.err


def test_a_prompt_longer_than_the_context(vivace: Vivace, text_model: Path) -> None:
    result = vivace("generate", text_model, "--prompt", "x" * 2000, *REFERENCE)
    assert (result.code, result.out) == (2, "")
    assert "context" in result.err


def test_inspect_counts_parameters_and_memory(vivace: Vivace, bare_model: Path) -> None:
    flags = ("--context", 100, "--concurrency", 3, "--dtype", "float32", *REFERENCE, "--json")
    result = answer(vivace("inspect", bare_model, *flags))
    # embeddings, then per layer: two norms, q and o, k and v, gate, up and down; one last norm
    parameters = 256 * 64 + 2 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128) + 64
    assert (result["family"], result["layers"]) == ("llama", 2)
    assert (result["parameters"], result["bytes"]) == (parameters, 2 * parameters)
    memory = result["memory"]
    tied = 256 * 64  # is kept once more, packed for the head
    assert memory["weight_bytes"] == 4 * (parameters + tied)
    # 7 pages of 16 tokens, keys and values of 2 layers, 2 heads of 16 float32 values
    assert memory["kv_bytes"] == 3 * (7 * 16) * 2 * 2 * 2 * 16 * 4
    assert memory["total_bytes"] == sum(
        memory[f"{part}_bytes"] for part in ("weight", "step", "kv")
    )
    assert memory["fits"] is True


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ("1KiB", "One sequence of 100 tokens"),
        ("1MiB", " sequences fit at once"),
        ("1000T", "lower kv_memory_bytes"),
    ],
)
def test_inspect_says_no_and_why(vivace: Vivace, bare_model: Path, limit: str, reason: str) -> None:
    flags = ("--context", 100, "--concurrency", 10**10, "--kv-memory", limit, *REFERENCE)
    memory = answer(vivace("inspect", bare_model, *flags, "--json"))["memory"]
    assert memory["fits"] is False
    assert reason in memory["reason"]
    printed = vivace("inspect", bare_model, *flags).out
    assert re.search(r"^fits +no$", printed, re.M)
    assert reason in printed


def test_inspect_cuts_the_context_to_the_memory_as_the_engine_does(
    vivace: Vivace, bare_model: Path
) -> None:
    flags = ("--kv-memory", 3 * 16 * 2 * 2 * 2 * 16 * 4, "--dtype", "float32", *REFERENCE)
    memory = answer(vivace("inspect", bare_model, *flags, "--json"))["memory"]
    assert (memory["fits"], memory["context"]) == (True, 48)


def test_inspect_shows_what_packed_and_evicted_pages_take(vivace: Vivace, bare_model: Path) -> None:
    def memory(kept: str, *others: str) -> dict[str, Any]:
        flags = ("--context", 256, "--kv-cache-dtype", kept, *others, *REFERENCE, "--json")
        found: dict[str, Any] = answer(vivace("inspect", bare_model, *flags))["memory"]
        return found

    plain, int8, int4 = (memory(kept) for kept in ("auto", "int8", "int4"))
    assert (plain["kv_cache_dtype"], int8["kv_cache_dtype"]) == ("auto", "int8")
    heads, near = 2 * 2, 32 * 2 * 16 * 4  # layers and heads; a block of near tokens in float32
    assert plain["kv_sequence_bytes"] == 8 * heads * near
    # 32 tokens of 16 keys and, padded, 32 values; their scales; up to a whole cache line
    assert int8["kv_sequence_bytes"] == heads * (8 * 1664 + near)
    assert int4["kv_sequence_bytes"] == heads * (8 * 896 + near)
    # the sinks' block, and those that a window of 40 touches
    sinks = "--kv-eviction", "sinks:40"
    assert memory("auto", *sinks)["kv_sequence_bytes"] == (1 + 4) * heads * near // 2
    assert memory("int8", *sinks)["kv_sequence_bytes"] == heads * ((1 + 3) * 1664 + near)


def test_inspect_refuses_a_context_past_the_models(vivace: Vivace, bare_model: Path) -> None:
    result = vivace("inspect", bare_model, "--context", 100_000, *REFERENCE)
    assert (result.code, result.out) == (2, "")
    assert "trained" in result.err


def test_inspect_for_people(vivace: Vivace, bare_model: Path) -> None:
    result = vivace("inspect", bare_model, *REFERENCE)
    assert result.code == 0
    assert "family" in result.out
    assert "MiB" in result.out


FIELDS = {
    "load_seconds",
    "ttft_seconds",
    "prefill_tokens_per_second",
    "decode_tokens_per_second",
    "requests_per_second",
    "peak_rss_bytes",
}


def test_bench_latency(vivace: Vivace, bare_model: Path) -> None:
    flags = ("--input-len", 9, "--output-len", 4, "--batch-size", 2, "--num-iters", 3)
    result = answer(vivace("bench", "latency", bare_model, *flags, *REFERENCE, "--json"))
    assert FIELDS | {"avg_latency", "latencies", "percentiles"} <= set(result)
    assert len(result["latencies"]) == 3
    assert result["avg_latency"] == pytest.approx(sum(result["latencies"]) / 3)
    assert all(result[name] > 0 for name in FIELDS)


def test_bench_throughput(vivace: Vivace, bare_model: Path) -> None:
    flags = ("--input-len", 9, "--output-len", 4, "--num-prompts", 5)
    result = answer(vivace("bench", "throughput", bare_model, *flags, *REFERENCE, "--json"))
    assert FIELDS | {"elapsed_time", "tokens_per_second"} <= set(result)
    assert (result["num_requests"], result["total_num_tokens"]) == (5, 5 * 13)
    rate = result["num_requests"] / result["elapsed_time"]
    assert result["requests_per_second"] == pytest.approx(rate)


def test_bench_for_people(vivace: Vivace, bare_model: Path) -> None:
    flags = ("--input-len", 9, "--output-len", 2, "--num-iters", 1)
    result = vivace("bench", "latency", bare_model, *flags, *REFERENCE)
    assert result.code == 0
    assert "prefill tokens per second" in result.out


def test_bench_beyond_the_context_is_explained(vivace: Vivace, bare_model: Path) -> None:
    result = vivace("bench", "latency", bare_model, "--input-len", 2000, *REFERENCE, "--json")
    assert (result.code, result.out) == (2, "")
    assert "context" in result.err
