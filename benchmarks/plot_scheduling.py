"""Draw what rows 2, 3, 5, 6 and 7 of proofs/scheduler-cache.json measured.

    python benchmarks/plot_scheduling.py [--proof FILE] [--folder docs]

Writes the pictures of PLOTS whose rows are in the file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

ROOT = Path(__file__).parent.parent
BLUE, LIGHT, ORANGE, GREY = "#3b6fb6", "#9dbbe3", "#d98032", "#b9b9b9"
RANKS = np.linspace(0, 100, 101)
MS = 1000.0
TTFT_BAR = 1.5  # times that of an idle engine, and a step
WASTE_BAR = 4  # percent
KL_BAR = 0.002  # nats per token, of int8


def priority(result: Mapping[str, Any]) -> Figure:
    """Times to first token of urgent requests, on an idle engine and beside batch work."""
    figure, axes = _picture("milliseconds to first token", "percentile of urgent requests")
    allowed = TTFT_BAR * result["p99_ttft"]["idle"] + result["p99_step"]
    _distribution(axes, result["ttfts"]["idle"], "idle engine", GREY)
    _distribution(axes, result["ttfts"]["loaded"], "beside batch work", BLUE)
    axes.axvline(MS * allowed, color="black", linestyle="--", linewidth=1)
    axes.annotate(
        "1.5 × idle p99\n+ a step", (MS * allowed, 30), (4, 0), textcoords="offset points"
    )
    rates = result["tokens_per_second"]
    axes.set_title(
        "all work together {both:.0f} tokens/s, batch work alone {batch:.0f}".format(**rates)
    )
    axes.legend(frameon=False, loc="best")
    return figure


def targets(result: Mapping[str, Any]) -> Figure:
    """Times between the streams' tokens while long prompts are computed."""
    figure, axes = _picture("milliseconds between tokens", "percentile of gaps")
    colours = {"target": BLUE, "no target": GREY}
    for name, colour in colours.items():
        engine = result["engines"][name]
        label = f"{name}: {engine['tokens_per_second']:.0f} tokens/s"
        _distribution(axes, engine["gaps"], label, colour)
    axes.axvline(MS * result["target"], color="black", linestyle="--", linewidth=1)
    axes.annotate("target", (MS * result["target"], 2), (4, 0), textcoords="offset points")
    axes.set_title("8 streams beside bursts of 4k-token prompts, 0.35B int8")
    axes.legend(frameon=False, loc="lower right")
    return figure


def chat(result: Mapping[str, Any]) -> Figure:
    """What sharing prefixes saves in conversations, and what the disk keeps of it."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    rates, ttfts = result["tokens_per_second"], result["median_ttfts"]
    bars = {
        "if no prompt\ntook any time": "decodes alone",
        "shared": "shared",
        "not shared": "apart",
    }
    shown = {label: rates[name] for label, name in bars.items()}
    _bars(left, shown, [LIGHT, BLUE, GREY], "{:.0f}")
    left.set(title="8 conversations of 6 turns", ylabel="tokens of answers per second")
    names = {"cached": "shared", "from disk after\na restart": "restarted", "cold": "apart"}
    values = {label: MS * ttfts[name] for label, name in names.items()}
    _bars(right, values, [BLUE, LIGHT, GREY], "{:.0f} ms")
    right.set(title="first token of the next turn", ylabel="milliseconds")
    return figure


def kv_memory(result: Mapping[str, Any]) -> Figure:
    """What share of the memory that sequences hold has no token in it."""
    figure, axes = _picture("mean tokens of a sequence", "percent of held memory wasted")
    cases = sorted(result["cases"], key=lambda one: one["mean_length"])
    lengths = [one["mean_length"] for one in cases]
    kinds = {
        "longest_reserved": ("2,048 tokens reserved", GREY),
        "prompt_and_answer_reserved": ("prompt and answer reserved", ORANGE),
        "pages": (f"pages of {result['page_tokens']} tokens", BLUE),
    }
    for name, (label, colour) in kinds.items():
        wasted = [100 * one[name] for one in cases]
        axes.plot(lengths, wasted, "o-", color=colour, label=label, markersize=4)
    axes.axhline(WASTE_BAR, color="black", linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks(lengths, [f"{length:.0f}" for length in lengths])
    axes.minorticks_off()
    axes.set_ylim(0, 100)
    axes.set_title("KV memory without a token in it")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(0, 0.62))
    return figure


def kv_formats(quality: Mapping[str, Any], sequences: Mapping[str, Any]) -> Figure:
    """What packed pages save, and what they cost."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    held = {name.replace("auto", "bfloat16"): n for name, n in sequences["sequences"].items()}
    _bars(left, held, [GREY, BLUE, LIGHT], "{:.0f}")
    tokens, mib = sequences["context"], sequences["bytes"] >> 20
    left.set(title=f"sequences of {tokens:,} tokens in {mib} MiB")
    costs = {name: one["kl"] for name, one in quality["formats"].items()}
    _bars(right, costs, [BLUE, LIGHT], "{:.5f}")
    right.axhline(KL_BAR, color="black", linestyle="--", linewidth=1)
    right.annotate("int8's bar", (0, KL_BAR), (0, 3), textcoords="offset points", ha="center")
    right.set(title="KL divergence from bfloat16 pages", ylabel="nats per token")
    return figure


def eviction(result: Mapping[str, Any]) -> Figure:
    """Perplexity along streams, over that of a fresh context."""
    figure, axes = _picture(
        f"position in the stream, in caches of {result['window']} tokens",
        "perplexity, times that of a fresh context",
    )
    kept = result["kept"]
    lines = {
        "every position kept": (result["whole"], ORANGE, "-"),
        "4 sinks and the window": (kept["4"], BLUE, "-"),
        "the window alone": (kept["0"], "black", ":"),
    }
    for label, (one, colour, style) in lines.items():
        times = np.asarray(one["perplexity"]) / result["fresh"]
        axes.plot(np.arange(1, len(times) + 1), times, style, color=colour, label=label)
    trained = result["trained_for"] / result["window"]
    axes.axvline(trained, color="black", linestyle="--", linewidth=1)
    at = trained, axes.get_ylim()[1]
    axes.annotate("trained for", at, (4, -10), textcoords="offset points")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"{result['model']}: {result['length']:,} tokens of held-out text")
    axes.legend(frameon=False, loc="best")
    return figure


def recall(result: Mapping[str, Any]) -> Figure:
    """How much is recalled of a prompt of which only some positions are kept."""
    figure, axes = _picture(
        f"positions kept of {result['tokens']}", "percent of questions answered rightly"
    )
    kept = {int(count): ways for count, ways in result["kept"].items()}
    lines = {
        "snap": ("snap: chosen by the question", BLUE),
        "snap_unseen": ("snap: chosen before the question", LIGHT),
        "sinks": ("4 sinks and a window", ORANGE),
    }
    for name, (label, colour) in lines.items():
        right = [100 * ways[name]["right"] for ways in kept.values()]
        axes.plot(list(kept), right, "o-", color=colour, label=label, markersize=4)
    axes.axhline(100 * result["whole"]["right"], color=GREY, linestyle="--", label="all kept")
    axes.set_xticks(list(kept))
    axes.set_ylim(0, 105)
    axes.set_title("recall of one of {:.0f} pairs".format((result["tokens"] - 1) / 2))
    axes.legend(frameon=False, loc="center right")
    return figure


@dataclass(frozen=True)
class Plot:
    """Attributes:
    row: its number.
    keys: those of the row's figures that `draw` is given.
    name: of the file.
    """

    row: int
    keys: tuple[str, ...]
    name: str
    draw: Callable[..., Figure]


PLOTS = (
    Plot(2, ("priority",), "priority.svg", priority),
    Plot(3, ("targets",), "targets.svg", targets),
    Plot(5, ("chat",), "chat.svg", chat),
    Plot(6, ("kv_memory",), "kv-memory.svg", kv_memory),
    Plot(6, ("kv_quality", "kv_sequences"), "kv-formats.svg", kv_formats),
    Plot(7, ("eviction",), "eviction.svg", eviction),
    Plot(7, ("recall",), "recall.svg", recall),
)


def _picture(across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.5, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlabel=across, ylabel=up)
    return figure, axes


def _distribution(axes: Axes, quantiles: list[float], label: str, colour: str) -> None:
    axes.plot(MS * np.asarray(quantiles), RANKS, color=colour, label=label)


def _bars(axes: Axes, values: Mapping[str, float], colours: list[str], form: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    drawn = axes.bar(list(values), list(values.values()), color=colours, width=0.6)
    axes.bar_label(drawn, [form.format(value) for value in values.values()])


def draw(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """The pictures of those rows that were measured."""
    drawn = []
    with mpl.rc_context({"svg.hashsalt": "vivace", "font.size": 9, "axes.titlesize": 10}):
        for plot in PLOTS:
            figures = results.get(str(plot.row), {}).get("figures", {})
            if set(plot.keys) <= set(figures):
                figure = plot.draw(*(figures[key] for key in plot.keys))
                figure.savefig(folder / plot.name, metadata={"Date": None})
                drawn.append(folder / plot.name)
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description="Pictures of scheduling and the KV cache.")
    parser.add_argument("--proof", type=Path, default=ROOT / "proofs" / "scheduler-cache.json")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs")
    given = parser.parse_args()
    for path in draw(json.loads(given.proof.read_text()), given.folder):
        print(path)


if __name__ == "__main__":
    main()
