"""The benchmarks run, on models or texts too small to mean anything."""

from __future__ import annotations

import pytest

from tests.bench.scripts import run
from vivace.evaluate.corpus import held_out_files


@pytest.mark.oracle
def test_beside_transformers() -> None:
    result = run("transformers_cpu.py", "--models", "tiny", "--rounds", "1", "--threads", "1")
    tiny = result["models"]["tiny"]
    for task in ("prefill", "decode"):
        rates = tiny[task]["tokens_per_second"]
        assert set(rates) == {"vivace", "transformers"}
        assert all(rate > 0 for rate in rates.values())
        assert len(tiny[task]["ratio_by_round"]) == 1


def test_bits_of_a_scheme() -> None:
    result = run("bits.py", "--schemes", "int8", "--files", "1")
    assert result["bytes"] == held_out_files()[0].num_bytes
    (int8,) = result["schemes"].values()
    assert int8["bits_per_byte"] != result["bits_per_byte"]
    assert int8["bits_per_byte"] == pytest.approx(result["bits_per_byte"], rel=0.01)
    assert int8["cost"] == pytest.approx(int8["bits_per_byte"] / result["bits_per_byte"] - 1)


def test_what_packed_pages_cost_and_save() -> None:
    result = run("kv_quality.py", "--files", "1", "--formats", "int8", "--context", "512")
    int8 = result["formats"]["int8"]
    assert 0 < int8["kl"] < 0.002
    assert int8["agreement"] > 0.98
    assert int8["perplexity"] == pytest.approx(1, abs=0.01)
    # 16 blocks of 32 tokens, of which the last is there in bfloat16 too
    assert int8["smaller"] == pytest.approx(16 / (16 * 4288 / 8192 + 1), rel=1e-6)


def test_sequences_side_by_side() -> None:
    options = ("--mib", "2", "--context", "512", "--started", "20")
    held = run("kv_sequences.py", *options)["sequences"]
    assert held["auto"] == (2 << 20) // (512 * 512)
    # 16 blocks of 32 tokens, of which the last is there in bfloat16 too; a step's pages come off
    assert 12 <= held["int8"] <= held["auto"] * 16 / (16 * 4288 / 8192 + 1)
    assert held["int4"] > held["int8"]


def test_eviction() -> None:
    options = ("--window", "64", "--times", "3", "--streams", "1", "--sinks", "4", "0")
    result = run("eviction.py", *options)
    assert result["length"] == 192
    kept, whole = result["kept"], result["whole"]
    lines = [result["fresh"], whole["perplexity"], *(one["perplexity"] for one in kept.values())]
    assert {len(line) for line in lines} == {3}
    first = whole["perplexity"][0]
    assert kept["4"]["perplexity"][0] == kept["0"]["perplexity"][0] == first
    assert kept["4"]["perplexity"][2] != kept["0"]["perplexity"][2]
    assert kept["4"]["pages"] < whole["pages"]


def test_recall_of_what_was_passed_needs_the_choice() -> None:
    result = run("recall.py", "--questions", "64", "--kept", "64")
    ways = result["kept"]["64"]
    assert result["whole"]["right"] > 0.95
    assert ways["snap"]["right"] > 0.9
    assert ways["sinks"]["by_depth"][0] < 0.2
    assert ways["snap_unseen"]["right"] < 0.6
    assert ways["snap"]["pages"] < result["whole"]["pages"]


def test_startup() -> None:
    result = run("startup.py", "--rounds", "1")
    assert 0 < result["help_seconds"] < result["first_token_seconds"]
