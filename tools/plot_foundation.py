"""Draw the speed rows of proofs/foundation.json: docs/foundation-speed.svg.

    python tools/plot_foundation.py

Bars are medians, whiskers the slowest and fastest round; the dashed line is the machine's limit for
decode, its streaming read over the weights' bytes, measured in the same rounds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

ROOT = Path(__file__).parent.parent
COLOURS = {"vivace": "#3b6fb6", "transformers": "#b9b9b9"}
TITLES = {"decode": "decode, batch 1", "prefill": "prefill of 512"}


def draw(axes: Axes, title: str, task: dict[str, Any]) -> None:
    """One panel: both engines' rates of one task."""
    medians, rounds = task["tokens_per_second"], task["tokens_per_second_by_round"]
    for place, (engine, colour) in enumerate(COLOURS.items()):
        low, high = min(rounds[engine]), max(rounds[engine])
        middle = medians[engine]
        axes.bar(place, middle, color=colour, width=0.7)
        axes.errorbar(place, middle, [[middle - low], [high - middle]], color="black", capsize=3)
        axes.annotate(f"{middle:,.0f}", (place, 0), (0, 4), textcoords="offset points", ha="center")
    axes.set_title(f"{title}: {task['ratio']:.2f} times", fontsize=10)
    axes.set_xticks(range(len(COLOURS)), list(COLOURS))
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    results = json.loads((ROOT / "proofs" / "foundation.json").read_text())
    measured = results["5"]["figures"]["transformers_cpu"]
    models = measured["models"]
    figure, rows = plt.subplots(1, 2 * len(models), figsize=(11, 3.2), layout="constrained")
    panels = iter(rows)
    for name, model in models.items():
        for task, title in TITLES.items():
            axes = next(panels)
            draw(axes, f"{name} {title}", model[task])
            if task == "decode":
                limit = model["limit"]
                rate = limit["read_bytes_per_second"] / limit["weight_bytes_per_token"]
                axes.axhline(rate, color="black", linestyle="--", linewidth=1)
    rows[0].set_ylabel("tokens per second")
    figure.suptitle(f"bfloat16, {measured['threads']} threads, one run", fontsize=10)
    figure.savefig(ROOT / "docs" / "foundation-speed.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
