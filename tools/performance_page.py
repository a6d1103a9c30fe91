"""Fill docs/performance.md from what `make bench-peers` measured, and draw it.

    python tools/performance_page.py [--check]

Reads proofs/peers-native.json and proofs/peers-avx512.json, writes the tables between the page's
marks and docs/peers-native.svg and docs/peers-avx512.svg. With --check nothing is written; exits
with 1 if the page says something else than the files.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from claims.sources import sources_hash
from marked import with_section

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"
PANELS = ("prefill", "decode-1x", "decode-4x", "decode-16x", "decode-32x")
COLOURS = {"int4": "#3b6fb6", "int8": "#d98032", "bfloat16": "#5a9e5a"}
STALE = "////"  # bars of figures that were made on other sources
NO_AMX = {"native": "", "avx512": " without AMX"}


def measured(result: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Tokens per second by contender and task: medians of the rounds."""
    return {
        name: {task: median(rates) for task, rates in one["rates"].items() if rates}
        for name, one in result["contenders"].items()
        if one["absent"] is None
    }


def tasks(result: dict[str, Any]) -> list[str]:
    """Prefill by length, then decode by context and batch."""
    found = {task for one in result["contenders"].values() for task in one["rates"]}
    return sorted(found, key=_place)


def _place(task: str) -> tuple[bool, list[int]]:
    kind, _, shape = task.partition("-")
    return kind != "prefill", [int(number) for number in reversed(shape.split("x"))]


def markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def star(one: dict[str, Any], task: str, now: str) -> str:
    """After a figure that was made on other sources."""
    return "" if one["made"][task]["sources"] == now else "\\*"


def rates_table(result: dict[str, Any], now: str) -> list[str]:
    names = tasks(result)
    rows = []
    for name, found in measured(result).items():
        one = result["contenders"][name]
        cells = [
            f"{found[task]:.0f}{star(one, task, now)}" if task in found else "-" for task in names
        ]
        rows.append([name, *cells])
    return markdown(["tokens per second", *names], rows)


def stamps(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [made for one in result["contenders"].values() for made in one["made"].values()]


def made_line(result: dict[str, Any], now: str) -> str:
    found = stamps(result)
    days = ", ".join(sorted({made["date"][:10] for made in found}))
    rounds = " or ".join(map(str, sorted({made["rounds"] for made in found})))
    stale = any(made["sources"] != now for made in found)
    note = " Figures with \\* were made on other sources than stand here." if stale else ""
    return f"Medians of {rounds} interleaved rounds; made on {days}.{note}"


def limits_line(result: dict[str, Any]) -> str:
    limits = result["limits"]
    if not limits:
        return f"The machine's limits are absent: {result['limits_absent']}."
    read, int8, half = (
        median(one[name] for one in limits) for name in ("read", "int8", "bfloat16")
    )
    return (
        f"The machine's limits in the same rounds: streaming read {read / 1e9:.1f} GB/s, int8 "
        f"{int8 / 1e12:.2f} TOP/s, bfloat16 {half / 1e12:.2f} TFLOP/s."
    )


def resources_table(result: dict[str, Any], now: str) -> list[str]:
    rows = [resources(name, one, now) for name, one in result["contenders"].items()]
    head = ["", "bytes per weight", "load s", "first token s", "peak MB"]
    return markdown(head, [row for row in rows if row])


def resources(name: str, one: dict[str, Any], now: str) -> list[str]:
    size = one["about"].get("bytes_per_weight", one["bytes_per_weight"])
    if one["absent"] is not None or not one["starts"]:
        return []
    load, first, peak = (
        median(start[key] for start in one["starts"])
        for key in ("load_seconds", "first_token_seconds", "peak_bytes")
    )
    mark = star(one, "start", now)
    held = "-" if size is None else f"{size:.2f}"
    return [name, held, f"{load:.2f}", f"{first:.2f}", f"{peak / 1e6:.0f}{mark}"]


def versions(result: dict[str, Any]) -> list[str]:
    """One line per peer."""
    lines = {}
    for one in result["contenders"].values():
        found = {key: value for key, value in one["about"].items() if key in VERSION_KEYS}
        if found:
            lines[one["peer"]] = ", ".join(f"{key} {value}" for key, value in found.items())
    return [f"- {line}" for line in lines.values()]


VERSION_KEYS = (
    "vivace",
    "llama-cpp-python",
    "openvino-genai",
    "vllm",
    "onnxruntime-genai",
    "transformers",
    "torch",
)


def absent(result: dict[str, Any]) -> list[str]:
    lines = []
    for name, one in result["contenders"].items():
        if one["absent"] is not None:
            lines.append(f"- {name} is absent: {one['absent']}.")
        lines += [f"- {name} has no {task}: {why}." for task, why in one["absent_tasks"].items()]
    return lines


def section(result: dict[str, Any], now: str) -> str:
    isa, machine = result["isa"], result["machine"]
    about = (
        f"{machine['cpu']}, {result['threads']} threads{NO_AMX[isa]}; model {result['preset']} "
        f"({result['parameters'] / 1e9:.2f}e9 parameters). {made_line(result, now)}"
    )
    picture = f"![Tokens per second, vivace and its peers](peers-{isa}.svg)"
    parts = [
        [about],
        [limits_line(result)],
        rates_table(result, now),
        resources_table(result, now) if any(tasks_started(result)) else [],
        absent(result),
        versions(result),
        [picture],
    ]
    return "\n" + "\n\n".join("\n".join(part) for part in parts if part) + "\n\n"


def tasks_started(result: dict[str, Any]) -> list[bool]:
    return [bool(one["starts"]) for one in result["contenders"].values()]


def draw(result: dict[str, Any], file: Path, now: str) -> None:
    """One panel per kind of task: bars side by side, medians, slowest and fastest round."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    plt.rcParams["svg.hashsalt"] = "vivace"
    names = tasks(result)
    panels = [name for name in names if any(name.startswith(panel) for panel in PANELS)]
    contenders = list(reversed(measured(result)))
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    size = (3.1 * columns + 1.5, rows * (0.26 * len(contenders) + 0.9))
    figure, grid = plt.subplots(*(rows, columns), figsize=size, squeeze=False, layout="constrained")
    for place, axes in enumerate(grid.flat):
        if place >= len(panels):
            axes.set_visible(False)
            continue
        draw_panel(axes, panels[place], contenders, result, now)
        axes.tick_params(labelleft=place % columns == 0)
    figure.suptitle(f"tokens per second, {result['threads']} threads{NO_AMX[result['isa']]}")
    if any(made["sources"] != now for made in stamps(result)):
        stale = Patch(facecolor="white", edgecolor="grey", hatch=STALE, label="on other sources")
        figure.legend(handles=[stale], loc="outside lower right", frameon=False, fontsize=8)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def draw_panel(
    axes: Any, task: str, contenders: list[str], result: dict[str, Any], now: str
) -> None:
    for place, name in enumerate(contenders):
        one = result["contenders"][name]
        rates = one["rates"].get(task)
        if not rates:
            continue
        middle = median(rates)
        (bar,) = axes.barh(place, middle, color=COLOURS[one["kind"]])
        bar.set_alpha(1.0 if one["peer"] == "vivace" else 0.45)
        mark = star(one, task, now) and "*"
        if mark:
            bar.set(hatch=STALE, edgecolor="white", linewidth=0)
        spread = [[middle - min(rates)], [max(rates) - middle]]
        axes.errorbar(middle, place, xerr=spread, color="black", capsize=2, linewidth=0.8)
        axes.annotate(f" {middle:.0f}{mark}", (0, place), va="center", fontsize=7)
    axes.set_yticks(range(len(contenders)), contenders, fontsize=8)
    axes.set_ylim(-0.6, len(contenders) - 0.4)
    axes.set_title(task, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> int:
    parser = argparse.ArgumentParser(description="The tables and plots of docs/performance.md.")
    parser.add_argument("--check", action="store_true", help="only compare")
    given = parser.parse_args()
    before = page = PAGE.read_text()
    for isa in NO_AMX:
        file = ROOT / "proofs" / f"peers-{isa}.json"
        if not file.exists():
            continue
        result = json.loads(file.read_text())
        now = sources_hash()
        page = with_section(page, isa, section(result, now))
        if not given.check:
            draw(result, PAGE.parent / f"peers-{isa}.svg", now)
    if given.check:
        return int(before != page)
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
