"""The benchmarks of scheduling and the KV cache run, on a model too small to mean anything."""

from __future__ import annotations

import pytest

from tests.bench.scripts import run

pytest.importorskip("vivace.backends.cpu._native", reason="vivace was built without a compiler")

SHORT = ("--short", "--rounds", "1")


def test_requests_in_company_and_alone() -> None:
    result = run("lossless.py", "--requests", "200")
    assert result["different"] == 0
    assert result["requests"] == 200
    used = ("preemptions", "prefetches", "integrity_checks", "saved", "restored", "fetched_used")
    assert {name for name in used if not result["at_work"][name]} == set()


def test_urgent_requests_beside_batch_work() -> None:
    result = run("priority.py", *SHORT)
    assert min(result["p99_ttft"].values()) > 0
    assert result["p99_step"] > 0
    assert set(result["tokens_per_second"]) == {"batch", "both"}
    assert len(result["starved_ttfts"]) == result["sizes"]["starved"]


def test_streams_with_and_without_a_target() -> None:
    result = run("targets.py", *SHORT)
    assert result["target"] == pytest.approx(3 * result["decode_only_gap"])
    assert set(result["engines"]) == {"target", "no target"}
    assert all(engine["p99_gap"] > 0 for engine in result["engines"].values())


def test_a_tenant_alone_and_beside_another() -> None:
    result = run("tenants.py", *SHORT)
    assert result["alone"]["latency"] > result["alone"]["ttft"] > 0
    assert set(result["shared"]) == {"target", "no target"}


def test_conversations() -> None:
    result = run("chat.py", *SHORT)
    assert set(result["tokens_per_second"]) == {"shared", "apart", "decodes alone"}
    assert set(result["median_ttfts"]) == {"shared", "apart", "restarted"}
    sizes = result["sizes"]
    assert len(result["ttfts"]["apart"]) == sizes["shape"]["conversations"]
    assert len(result["ttfts"]["shared"]) == 2 * len(result["ttfts"]["apart"])  # before and after
    assert len(result["ttfts"]["restarted"]) == sizes["restarts"]


def test_paging_wastes_less_than_reserving() -> None:
    result = run("kv_memory.py", "--requests", "100")
    for case in result["cases"]:
        assert 0 < case["pages"] < case["prompt_and_answer_reserved"] < case["longest_reserved"] < 1
    wasted = [case["pages"] for case in result["cases"]]
    assert wasted == sorted(wasted)  # from long sequences to short ones


def test_traces_on_paper_and_for_real() -> None:
    result = run("simulator.py", *SHORT)
    assert len(result["traces"]) >= 4
    for figures in result["traces"].values():
        assert all(len(one["real"]) == 1 and one["predicted"] > 0 for one in figures.values())
    hits = result["prefix_hit_tokens"]
    assert hits.pop("shared prefixes")["real"][0] > 0
    assert all(one["real"] == [0] for one in hits.values()), "a replay found another's tokens"
