"""The figures of a serving run, against what vLLM's definitions give by hand."""

from __future__ import annotations

import pytest

from vivace.bench.outcome import Outcome
from vivace.bench.serving_metrics import (
    Wanted,
    detailed,
    goodput,
    parse_wanted,
    per_second,
    summarize,
)
from vivace.core.errors import UsageError

pytestmark = pytest.mark.tiny

# Two answers, a single token, and a failure.
QUICK = Outcome(0.0, 10, 3, True, ttft=0.1, itls=(0.2, 0.3), latency=0.6, text="abc")
SLOW = Outcome(1.5, 20, 5, True, ttft=0.5, itls=(0.5, 1.5), latency=2.5, text="de")
SINGLE = Outcome(0.5, 30, 1, True, ttft=0.3, latency=0.3, text="f")
FAILED = Outcome(0.7, error="HTTP 500: no")
RUN = [QUICK, SLOW, SINGLE, FAILED]


def test_the_figures() -> None:
    wanted = Wanted(percentiles=(50.0, 99.9), objectives={"ttft": 300.0})
    result = summarize(RUN, 4.0, wanted)
    assert (result["completed"], result["failed"], result["duration"]) == (3, 1, 4.0)
    assert (result["total_input_tokens"], result["total_output_tokens"]) == (60, 9)
    assert result["request_throughput"] == 3 / 4
    assert result["request_goodput"] == 2 / 4
    assert result["output_throughput"] == 9 / 4
    assert result["total_token_throughput"] == 69 / 4
    assert result["mean_ttft_ms"] == pytest.approx(300)
    assert result["median_e2el_ms"] == result["p50_e2el_ms"] == pytest.approx(600)
    assert result["std_ttft_ms"] == pytest.approx(1000 * (0.08 / 3) ** 0.5)
    # (latency - ttft) / (output_len - 1), by the server's count, not that of the chunks
    assert result["mean_tpot_ms"] == pytest.approx(1000 * (0.5 / 2 + 2.0 / 4) / 2)
    assert result["mean_itl_ms"] == pytest.approx(1000 * 2.5 / 4)
    assert result["p99.9_itl_ms"] == pytest.approx(1500, rel=0.01)


def test_only_the_metrics_asked_for() -> None:
    result = summarize(RUN, 4.0, Wanted(("ttft",), ()))
    assert {name for name in result if name.endswith("_ms")} == {
        "mean_ttft_ms",
        "median_ttft_ms",
        "std_ttft_ms",
    }


def test_a_run_in_which_all_failed() -> None:
    result = summarize([FAILED], 4.0, Wanted())
    assert (result["completed"], result["failed"]) == (0, 1)
    assert result["max_output_tokens_per_s"] == result["max_concurrent_requests"] == 0
    assert result["mean_ttft_ms"] is result["p99_itl_ms"] is None


def test_seconds_are_counted_from_the_first_start() -> None:
    tokens, concurrent = per_second([QUICK, SLOW])
    # chunks at 0.1, 0.3, 0.6 and at 2.0, 2.5, 4.0; under way from 0 to 0.6 and from 1.5 to 4.0
    assert tokens.tolist() == [3, 0, 2, 0, 1]
    assert concurrent.tolist() == [1, 1, 1, 1, 1]
    later, _ = per_second([SLOW])
    assert later.tolist() == [1, 1, 1, 0]


def test_a_request_under_way_counts_in_every_second_it_touches() -> None:
    _, concurrent = per_second([QUICK, SINGLE, SLOW])
    assert concurrent.tolist() == [2, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("objectives", "good"),
    [
        (None, None),
        ({"ttft": 300.0}, 2),
        ({"ttft": 99.0}, 0),
        ({"tpot": 250.0}, 2),  # a single token meets it
        ({"ttft": 600.0, "tpot": 600.0, "e2el": 1000.0}, 2),
        ({"e2el": 2500.0}, 3),
    ],
)
def test_goodput(objectives: dict[str, float] | None, good: int | None) -> None:
    found = goodput([QUICK, SLOW, SINGLE], 4.0, objectives)
    assert found == (None if good is None else good / 4)


def test_every_request_in_detail() -> None:
    found = detailed(RUN)
    assert found["input_lens"] == [10, 20, 30, None]
    assert found["output_lens"] == [3, 5, 1, 0]
    assert found["itls"] == [[0.2, 0.3], [0.5, 1.5], [], []]
    assert found["start_times"] == [0.0, 1.5, 0.5, 0.7]
    assert found["errors"] == ["", "", "", "HTTP 500: no"]
    assert found["generated_texts"] == ["abc", "de", "f", ""]
    assert {len(values) for values in found.values()} == {4}


def test_what_is_wanted_is_read() -> None:
    wanted = parse_wanted("itl, ttft", "50,99.9", "ttft:200 e2el:1500.5")
    assert wanted == Wanted(("itl", "ttft"), (50.0, 99.9), {"ttft": 200.0, "e2el": 1500.5})
    assert parse_wanted("", "", "") == Wanted((), (), None)


@pytest.mark.parametrize(
    "given",
    [
        ("speed", "99", ""),
        ("ttft", "x", ""),
        ("ttft", "101", ""),
        ("ttft", "99", "ttft"),
        ("ttft", "99", "itl:5"),
        ("ttft", "99", "ttft:fast"),
    ],
)
def test_what_cannot_be_read_is_refused(given: tuple[str, str, str]) -> None:
    with pytest.raises(UsageError):
        parse_wanted(*given)
