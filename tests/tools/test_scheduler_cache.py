"""How the rows about scheduling and the KV cache judge what their benchmarks printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.tiny

AT_WORK = {
    "preemptions": 5,
    "prefetches": 2,
    "integrity_checks": 9,
    "engine_starts": 4,
    "prefix_hit_tokens": 100,
    "saved": 7,
    "restored": 6,
    "fetched_used": 3,
}


def lossless(**changes: Any) -> dict[str, Any]:
    return {"requests": 10_000, "different": 0, "at_work": AT_WORK, **changes}


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"different": 1}, False),
        ({"requests": 9_999}, False),
        ({"at_work": {**AT_WORK, "restored": 0}}, False),
    ],
)
def test_equal_tokens_prove_something_only_if_all_was_at_work(
    changes: dict[str, Any], holds: bool
) -> None:
    from claims.scheduling import lossless as judge

    assert judge(lossless(**changes)).holds is holds


def priority(loaded: float = 0.1, both: float = 990.0, starved: float = 4.1) -> dict[str, Any]:
    """On an idle engine 40 ms, and steps of 50 ms: 110 ms are allowed."""
    return {
        "p99_ttft": {"idle": 0.04, "loaded": loaded},
        "p99_step": 0.05,
        "tokens_per_second": {"batch": 1000.0, "both": both},
        "rates_by_round": [{"batch": rate} for rate in (980.0, 1000.0, 1020.0)],
        "ttfts": {"idle": [0.03, 0.04], "loaded": [0.05, loaded]},
        "max_wait": 4.0,
        "starved_ttfts": [4.05, starved],
    }


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"loaded": 0.109}, True),
        ({"loaded": 0.111}, False),
        ({"both": 979.0}, False),  # slower than every round of the batch work alone
        ({"starved": 4.12}, False),
    ],
)
def test_urgent_requests_batch_work_and_the_aged(changes: dict[str, float], holds: bool) -> None:
    from claims.scheduling import priority as judge

    assert judge(priority(**changes)).holds is holds


def targets(p99_gap: float = 0.07, rate: float = 950.0) -> dict[str, Any]:
    def engine(gap: float, rate: float) -> dict[str, Any]:
        return {"p99_gap": gap, "tokens_per_second": rate, "gaps": [0.02, gap]}

    engines = {"target": engine(p99_gap, rate), "no target": engine(0.1, 1000.0)}
    return {"target": 0.06, "decode_only_gap": 0.02, "engines": engines}


@pytest.mark.parametrize(
    ("changes", "holds"),
    [({}, True), ({"p99_gap": 0.076}, False), ({"rate": 899.0}, False), ({"rate": 900.0}, True)],
)
def test_a_target_is_kept_at_little_cost(changes: dict[str, float], holds: bool) -> None:
    from claims.scheduling import targets as judge

    assert judge(targets(**changes)).holds is holds


@pytest.mark.parametrize(("latency", "holds"), [(2.9, True), (3.1, False)])
def test_a_tenant_has_its_share(latency: float, holds: bool) -> None:
    """1 s alone, so 2 s at half the speed."""
    from claims.scheduling import tenants as judge

    shared = {"target": {"latency": latency, "ttft": 0.3}, "no target": {"latency": 9, "ttft": 1}}
    result = {"share": 0.5, "alone": {"latency": 1.0, "ttft": 0.1}, "shared": shared}
    assert judge(result).holds is holds


def chat(rate: float = 500.0, cached: float = 0.1, restarted: float = 0.3) -> dict[str, Any]:
    return {
        "tokens_per_second": {"shared": rate, "apart": 100.0, "decodes alone": 600.0},
        "median_ttfts": {"shared": cached, "apart": 1.0, "restarted": restarted},
    }


@pytest.mark.parametrize(
    ("changes", "holds"),
    [({}, True), ({"rate": 499.0}, False), ({"cached": 0.13}, False), ({"restarted": 0.34}, False)],
)
def test_conversations_compute_only_what_is_new(changes: dict[str, float], holds: bool) -> None:
    from claims.kv_cache import chat as judge

    assert judge(chat(**changes)).holds is holds


def waste(share: float) -> dict[str, Any]:
    def case(scale: float, share: float) -> dict[str, float]:
        reserved = {"prompt_and_answer_reserved": 0.4, "longest_reserved": 0.8}
        return {"scale": scale, "mean_length": 500 * scale, "pages": share, **reserved}

    return {"page_tokens": 16, "cases": [case(1.0, share), case(0.5, 2 * share)]}


@pytest.mark.parametrize(("share", "holds"), [(0.039, True), (0.04, False)])
def test_pages_waste_little_at_the_lengths_of_chats(share: float, holds: bool) -> None:
    from claims.kv_cache import waste as judge

    assert judge(waste(share)).holds is holds


def quality(int8: float = 1.88, int4: float = 3.37, kl: float = 0.0001) -> dict[str, Any]:
    formats = {
        "int8": {"smaller": int8, "kl": kl, "agreement": 0.99, "perplexity": 1.0},
        "int4": {"smaller": int4, "kl": 0.003, "agreement": 0.97, "perplexity": 1.01},
    }
    return {"context": 4096, "bytes": 1 << 23, "formats": formats}


@pytest.mark.parametrize(
    ("changes", "holds"),
    [({}, True), ({"int8": 1.84}, False), ({"int4": 3.19}, False), ({"kl": 0.002}, False)],
)
def test_packed_pages_are_small_and_int8_costs_little(
    changes: dict[str, float], holds: bool
) -> None:
    from claims.kv_cache import quality as judge

    assert judge(quality(**changes)).holds is holds


def sequences(int8: int = 36, int4: int = 56) -> dict[str, Any]:
    held = {"auto": 20, "int8": int8, "int4": int4}
    return {"bytes": 32 << 20, "context": 4096, "sequences": held}


@pytest.mark.parametrize(
    ("changes", "holds"), [({}, True), ({"int8": 35}, False), ({"int4": 55}, False)]
)
def test_as_much_memory_holds_more_sequences(changes: dict[str, int], holds: bool) -> None:
    from claims.kv_cache import sequences as judge

    assert judge(sequences(**changes)).holds is holds


def streams(end: float = 1.05, without: float = 2.0) -> dict[str, Any]:
    """8 windows; with sinks 1.02 times a fresh context, and at last `end` times."""
    fresh = [30.0, 10.0, 12.0, 9.0, 10.0, 11.0, 10.0, 10.0]
    sinks = [x * times for x, times in zip(fresh, [1.0] + 5 * [1.02] + 2 * [end], strict=True)]
    kept = {"4": {"perplexity": sinks}, "0": {"perplexity": [without * x for x in sinks]}}
    facts = {"model": "m", "window": 512, "length": 4096, "trained_for": 2048}
    return {**facts, "fresh": fresh, "whole": {"perplexity": fresh}, "kept": kept}


@pytest.mark.parametrize(("end", "holds"), [(1.07, True), (1.08, False)])
def test_a_stream_must_stay_as_near_to_a_fresh_context(end: float, holds: bool) -> None:
    from claims.kv_cache import streams as judge

    assert judge(streams(end)).holds is holds


def test_a_model_without_sinks_is_called_one() -> None:
    from claims.kv_cache import streams as judge

    assert "2.000 times that with them (breaks)" in judge(streams()).measured
    assert "this model has no sinks" in judge(streams(without=1.01)).measured


def recall(whole: float = 1.0, snap: float = 0.95, passed: float = 0.02) -> dict[str, Any]:
    def way(right: float, oldest: float) -> dict[str, Any]:
        return {"right": right, "by_depth": [oldest, right], "pages": 4}

    ways = {"snap": way(snap, snap), "snap_unseen": way(0.3, 0.3), "sinks": way(0.3, passed)}
    return {"tokens": 385, "whole": way(whole, whole), "kept": {"40": ways, "64": ways}}


@pytest.mark.parametrize(
    ("changes", "holds"),
    [({}, True), ({"whole": 0.94}, False), ({"snap": 0.89}, False), ({"passed": 0.11}, False)],
)
def test_recall_needs_the_choice(changes: dict[str, float], holds: bool) -> None:
    from claims.kv_cache import recall as judge

    assert judge(recall(**changes)).holds is holds


@pytest.mark.parametrize(
    ("real", "predicted", "is_near"),
    [
        ((100.0, 100.0, 100.0), 109.0, True),
        ((100.0, 100.0, 100.0), 111.0, False),
        ((80.0, 100.0, 130.0), 125.0, True),
        ((80.0, 100.0, 130.0), 131.0, False),
    ],
)
def test_near_is_within_a_tenth_or_among_the_real_runs(
    real: tuple[float, ...], predicted: float, is_near: bool
) -> None:
    from claims.simulator import near

    assert near(real, predicted) is is_near


def test_the_simulator_must_be_near_in_every_figure_of_enough_traces() -> None:
    from claims.simulator import judge

    def result(num_traces: int, rounds: int, predicted: float) -> dict[str, Any]:
        good = {"real": [1.0, 1.0], "predicted": 1.0}
        traces = {f"trace {n}": {"a": good, "b": good} for n in range(num_traces)}
        traces["trace 0"] = {"a": good, "b": {"real": [1.0, 1.0], "predicted": predicted}}
        return {"rounds": rounds, "traces": traces}

    assert judge(result(4, 5, 1.05)).holds
    assert not judge(result(3, 5, 1.05)).holds
    assert not judge(result(4, 4, 1.05)).holds
    off = judge(result(4, 5, 1.2))
    assert not off.holds
    assert "off: trace 0 b by +20%" in off.measured


def test_every_row_says_how_long_it_takes() -> None:
    from claims.scheduler_rows import ROWS

    assert list(ROWS) == list(range(1, 9))
    assert all(row.takes for row in ROWS.values())


def test_the_pictures_of_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    from plot_scheduling import draw

    quantiles = [0.01 * n for n in range(1, 102)]
    shown = priority() | {"ttfts": {"idle": quantiles, "loaded": quantiles}}
    beside = targets()
    for engine in beside["engines"].values():
        engine["gaps"] = quantiles
    packed = {"kv_quality": quality(), "kv_sequences": sequences()}
    measured = {
        "2": {"priority": shown},
        "3": {"targets": beside},
        "5": {"chat": chat()},
        "6": {"kv_memory": waste(0.03), **packed},
        "7": {"eviction": streams(), "recall": recall()},
    }
    results = {number: {"figures": figures} for number, figures in measured.items()}
    drawn = draw(results, tmp_path)
    assert [path.name for path in drawn] == [
        "priority.svg",
        "targets.svg",
        "chat.svg",
        "kv-memory.svg",
        "kv-formats.svg",
        "eviction.svg",
        "recall.svg",
    ]
    assert all("<svg" in path.read_text() for path in drawn)
    assert draw({"6": {"figures": {}}}, tmp_path) == []
