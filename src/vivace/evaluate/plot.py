"""A picture of an evaluation. Needs matplotlib, the extra [plot]."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vivace.evaluate.scoring import Beside, Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, GREY = "#3b6fb6", "#8a8a8a"
PLACES = 24  # bins of the place in a window


def plot_evaluation(path: Path, scores: Scores, figures: Mapping[str, Any]) -> None:
    """What tokens cost by their place in the window; beside a base, how its divergences spread."""
    from matplotlib.figure import Figure  # without pyplot, which would look for a display

    beside = scores.beside
    width = 5.5 if beside is None else 10.5
    figure = Figure(figsize=(width, 3.6), dpi=150, layout="constrained")
    panels = figure.subplots(1, 1 if beside is None else 2, squeeze=False)[0]
    _costs(panels[0], scores)
    if beside is not None:
        _divergences(panels[1], beside)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    base = "" if figures["base"] is None else f" beside {Path(figures['base']).name}"
    figure.suptitle(f"{Path(figures['model']).name}{base}: {figures['text']}", fontsize=11)
    figure.savefig(path)


def _costs(axes: Axes, scores: Scores) -> None:
    edges = np.linspace(0, scores.places.max() + 1, PLACES + 1)
    counts, _ = np.histogram(scores.places, edges)
    filled = counts > 0
    middles = ((edges[1:] + edges[:-1]) / 2)[filled]
    lines = {"this model": (scores.nats, BLUE)}
    if scores.beside is not None:
        lines["its base"] = (scores.beside.base_nats, GREY)
    for label, (nats, colour) in lines.items():
        sums, _ = np.histogram(scores.places, edges, weights=nats)
        axes.plot(middles, sums[filled] / counts[filled], color=colour, label=label)
    axes.set(xlabel="tokens before it", ylabel="nats per token", ylim=(0, None))
    axes.legend(frameon=False, fontsize=9)


def _divergences(axes: Axes, beside: Beside) -> None:
    """The share of tokens whose divergence is at least so large; dashed the mean, dotted p99."""
    values = np.sort(np.maximum(beside.kl, 0))
    mean, tail = float(values.mean()), float(np.quantile(values, 0.99))
    axes.plot(values, 1 - np.arange(len(values)) / len(values), color=BLUE)
    axes.axvline(mean, color="black", linestyle="--", linewidth=1)
    axes.axvline(tail, color="black", linestyle=":", linewidth=1)
    axes.set(xlabel="KL divergence from the base, nats", ylabel="share of tokens")
    axes.set_title(f"mean {mean:.3g}, p99 {tail:.3g}", fontsize=10)
    if tail > 0:
        axes.set(xscale="log", yscale="log", xlim=(tail / 1e4, values[-1] * 1.5))
