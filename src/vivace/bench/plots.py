"""Pictures of what was measured. Needs matplotlib, the extra [plot]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vivace.bench.run import StepRecord
from vivace.bench.serving_metrics import MILLISECONDS, samples, token_times
from vivace.bench.startup import PARTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vivace.bench.serving import Served

BLUE, LIGHT, GREY = "#3b6fb6", "#9dbbe3", "#b9b9b9"
PART_COLOURS = {"process_time": GREY, "load_time": BLUE, "first_token_time": LIGHT}
PART_NAMES = {
    "process_time": "Python and imports",
    "load_time": "loading the model",
    "first_token_time": "first token",
}
BINS = (6, 60)
MOMENTS_PER_BIN = 6
LOG_SCALE_FROM = 20  # times the median


def plot_serving(path: Path, served: Served) -> None:
    """How long clients waited, and what the server gave over time."""
    result = served.result
    done = [outcome for outcome in served.outcomes if outcome.error is None]
    figure = _figure(11, 3.4)
    first, between, rate = figure.subplots(1, 3)
    _distribution(first, samples(done, "ttft"), "Time to first token", "requests")
    _distribution(between, samples(done, "itl"), "Time between chunks", "gaps")
    moments = np.concatenate([token_times(outcome) for outcome in done])
    _rate(rate, moments, np.ones(len(moments)), result["duration"])
    rate.set_title("Chunks received", fontsize=10)
    figure.suptitle(
        f"{Path(result['model_id']).name}: {result['completed']} requests{_load(result)}; "
        f"{result['output_throughput']:,.0f} output tokens per second",
        fontsize=11,
    )
    figure.savefig(path)


def plot_latency(path: Path, result: Mapping[str, Any]) -> None:
    """The time of each batch, in the order of measuring."""
    latencies = np.asarray(result["latencies"])
    figure, axes = _picture(6, 3.4)
    places = np.arange(1, len(latencies) + 1)
    axes.bar(places, latencies, color=BLUE, width=0.7)
    middle = float(np.median(latencies))
    axes.axhline(middle, color="black", linestyle="--", linewidth=1)
    axes.set(xlabel="iteration", ylabel="seconds", ylim=(0, 1.15 * latencies.max()))
    axes.locator_params(axis="x", integer=True)
    axes.set_title(
        f"{Path(result['model']).name}: {result['batch_size']} x ({result['input_len']} tokens in, "
        f"{result['output_len']} out); median {middle:.3g} s",
        fontsize=10,
    )
    figure.savefig(path)


def plot_throughput(path: Path, result: Mapping[str, Any], steps: Sequence[StepRecord]) -> None:
    """Tokens per second over the run, above how many sequences were running."""
    ends = np.asarray([step.end for step in steps])
    figure = _figure(7, 4.4)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    _bare(below)
    _rate(above, ends, [step.tokens for step in steps], result["elapsed_time"])
    above.set(xlabel="", ylabel="new tokens per second")
    below.step([0.0, *ends], [0, *(step.sequences for step in steps)], where="pre", color=BLUE)
    below.set(xlabel="seconds", ylabel="running", ylim=(0, None))
    above.set_title(
        f"{Path(result['model']).name}: {result['num_requests']} requests at once, "
        f"{result['tokens_per_second']:,.0f} tokens per second with prompts",
        fontsize=10,
    )
    figure.savefig(path)


def plot_startup(path: Path, result: Mapping[str, Any]) -> None:
    """What a start consists of: the first one, and the median of the later ones."""
    figure, axes = _picture(7, 2.6)
    rows = {"later starts (median)": result, "first start": result["first_start"]}
    for row, start in enumerate(rows.values()):
        left = 0.0
        for part in PARTS:
            label = PART_NAMES[part] if row == 0 else None
            axes.barh(row, start[part], left=left, color=PART_COLOURS[part], label=label)
            left += start[part]
        axes.annotate(f"{left:.2f} s", (left, row), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_xlabel("seconds since the process was started")
    axes.set_xlim(0, 1.15 * max(start["total_startup_time"] for start in rows.values()))
    axes.set_title(f"{Path(result['model']).name}: from process start to the first token", size=10)
    figure.legend(loc="outside lower center", ncols=len(PARTS), frameon=False, fontsize=9)
    figure.savefig(path)


def _figure(width: float, height: float) -> Figure:
    """A figure without pyplot, which would look for a display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def _picture(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure that is one plot."""
    figure = _figure(width, height)
    axes = figure.subplots()
    _bare(axes)
    return figure, axes


def _distribution(axes: Axes, seconds: Sequence[float], title: str, what: str) -> None:
    """The share of values that are at most so large; dashed the median, dotted p99."""
    _bare(axes)
    axes.set(xlabel="milliseconds", ylabel=f"share of {what}", ylim=(0, 1.02))
    if not seconds:
        axes.set_title(f"{title}: none", fontsize=10)
        return
    values = np.asarray(seconds) * MILLISECONDS
    middle, tail = np.percentile(values, (50, 99))
    axes.ecdf(values, color=BLUE)
    axes.axvline(middle, color="black", linestyle="--", linewidth=1)
    axes.axvline(tail, color="black", linestyle=":", linewidth=1)
    axes.set_title(f"{title}\nmedian {middle:.3g} ms, p99 {tail:.3g} ms", fontsize=10)
    if values.min() > 0 and values.max() > LOG_SCALE_FROM * middle:
        axes.set_xscale("log")
    else:
        axes.set_xlim(0, 1.05 * values.max())


def _rate(axes: Axes, times: NDArray[np.float64], tokens: ArrayLike, duration: float) -> None:
    """What came per second, in even bins over the run."""
    _bare(axes)
    bins = int(np.clip(len(times) / MOMENTS_PER_BIN, *BINS))
    counts, edges = np.histogram(times, bins, (0.0, duration), weights=tokens)
    axes.stairs(counts * bins / duration, edges, fill=True, color=LIGHT)
    axes.set(xlabel="seconds", ylabel="per second", xlim=(0, duration), ylim=(0, None))
    axes.yaxis.set_major_formatter("{x:,g}")


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _load(result: Mapping[str, Any]) -> str:
    rate, limit = result["request_rate"], result["max_concurrency"]
    at_most = "" if limit is None else f", at most {limit} at a time"
    if "ramp_up_strategy" in result:
        start, end = result["ramp_up_start_rps"], result["ramp_up_end_rps"]
        return f" at {start:g} to {end:g} per second{at_most}"
    if rate == "inf":
        return at_most or " sent at once"
    return f" at {rate:g} per second{at_most}"
