"""Pictures are drawn of anything that can be measured, single tokens and ramps too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vivace.bench.outcome import Outcome
from vivace.bench.plots import plot_latency, plot_serving, plot_startup, plot_throughput
from vivace.bench.run import StepRecord
from vivace.bench.serving import Served
from vivace.bench.startup import PARTS

pytest.importorskip("matplotlib")

ANSWERS = [Outcome(i / 10, 8, 4, True, 0.1 + i / 50, (0.02, 0.03, 0.9), 2.0) for i in range(9)]
SERVING = {
    "model_id": "folder/model",
    "completed": 9,
    "request_rate": "inf",
    "max_concurrency": None,
    "output_throughput": 1234.5,
    "duration": 2.8,
}
START = {"total_startup_time": 3.0, **dict.fromkeys(PARTS, 1.0)}


def svg_text(path: Path) -> str:
    text = path.read_text()
    assert text.startswith("<?xml")
    return text


def test_a_png(tmp_path: Path) -> None:
    plot_latency(tmp_path / "a.png", latency([1.0]))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def latency(latencies: list[float]) -> dict[str, Any]:
    shape = {"batch_size": 2, "input_len": 3, "output_len": 4}
    return {"latencies": latencies, "model": "folder/model", **shape}


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text as text, so that it can be read."""
    import matplotlib

    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")


@pytest.mark.usefixtures("texts")
def test_latency(tmp_path: Path) -> None:
    plot_latency(tmp_path / "a.svg", latency([1.0, 3.0, 2.0]))
    assert "model: 2 x (3 tokens in, 4 out); median 2 s" in svg_text(tmp_path / "a.svg")


@pytest.mark.usefixtures("texts")
def test_throughput(tmp_path: Path) -> None:
    steps = [StepRecord(0.5, 2, 1), StepRecord(1.0, 2, 2)]
    result = {"elapsed_time": 1.0, "model": "m", "num_requests": 2, "tokens_per_second": 7.0}
    plot_throughput(tmp_path / "a.svg", result, steps)
    text = svg_text(tmp_path / "a.svg")
    assert "new tokens per second" in text
    assert "running" in text


@pytest.mark.usefixtures("texts")
def test_startup(tmp_path: Path) -> None:
    result = {
        **START,
        "first_start": {**START, "load_time": 9.0, "total_startup_time": 11.0},
        "model": "m",
    }
    plot_startup(tmp_path / "a.svg", result)
    text = svg_text(tmp_path / "a.svg")
    assert "3.00 s" in text
    assert "11.00 s" in text


@pytest.mark.usefixtures("texts")
@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({}, "model: 9 requests sent at once; 1,234 output"),
        ({"max_concurrency": 4}, "9 requests, at most 4 at a time; "),
        ({"request_rate": 2.5}, "9 requests at 2.5 per second; "),
        (
            {
                "ramp_up_strategy": "linear",
                "ramp_up_start_rps": 1.0,
                "ramp_up_end_rps": 9.0,
                "max_concurrency": 4,
            },
            "9 requests at 1 to 9 per second, at most 4 at a time; ",
        ),
    ],
    ids=("once", "limit", "rate", "ramp"),
)
def test_serving(tmp_path: Path, changes: dict[str, Any], title: str) -> None:
    plot_serving(tmp_path / "a.svg", Served({**SERVING, **changes}, ANSWERS))
    assert title in svg_text(tmp_path / "a.svg")


@pytest.mark.usefixtures("texts")
def test_serving_of_single_tokens(tmp_path: Path) -> None:
    answers = [Outcome(0.0, 8, 1, True, 0.1, (), 0.1), Outcome(0.5, error="no")]
    plot_serving(tmp_path / "a.svg", Served(SERVING, answers))
    assert "Time between chunks: none" in svg_text(tmp_path / "a.svg")
