"""Row 6: serving beside the peers' servers, and a mixed trace beside static batches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from claims.peers_run import Bar
from claims.row import Outcome, all_of, attempt

ROOT = Path(__file__).parent.parent.parent
MOST_CLIENTS = "16"
THROUGHPUT_BARS = {"32+256": 1.5, "256+64": 1.2}
TRACE_BAR = 4.0


def prove(isa: str) -> Outcome:
    return all_of(attempt(_servers, isa), attempt(_trace, isa))


def _benchmark(script: str, isa: str) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "benchmarks" / script), "--isa", isa]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(process.stdout))


def _servers(isa: str) -> Outcome:
    return judged(_benchmark("serving.py", isa))


def judged(result: dict[str, Any]) -> Outcome:
    """All servers are needed: the best other one is not known without them."""
    absent = "; ".join(f"{name} ({why})" for name, why in result["absent"].items()) or None
    checks = [_throughput(result, workload) for workload in THROUGHPUT_BARS]
    pauses = [_pauses(result, workload) for workload in THROUGHPUT_BARS]
    held = all(check.holds for check in checks) and all(held for _, held in pauses)
    return Outcome(
        "; ".join([*map(str, checks), *(line for line, _ in pauses)]),
        held and absent is None,
        absent,
        {"serving": result},
    )


def _medians(result: dict[str, Any], workload: str, name: str) -> dict[str, float]:
    """By server, at the most clients."""
    found: dict[str, list[float]] = {}
    for server, turns in result["servers"].items():
        by_clients = [turn[workload] for turn in turns]
        found[server] = [one[MOST_CLIENTS][name] for one in by_clients if MOST_CLIENTS in one]
    return {server: median(values) for server, values in found.items() if values}


def _throughput(result: dict[str, Any], workload: str) -> Bar:
    rates = _medians(result, workload, "output_throughput")
    ours = rates.pop("vivace", None)
    best = max(rates.items(), key=lambda item: item[1], default=None)
    label = f"{workload}, {MOST_CLIENTS} clients: tokens/s"
    return Bar(label, ours, best, THROUGHPUT_BARS[workload])


def _pauses(result: dict[str, Any], workload: str) -> tuple[str, bool]:
    """The 99th percentile between tokens, beside the server with the best throughput."""
    pauses = _medians(result, workload, "p99_itl_ms")
    best = _throughput(result, workload).theirs
    if best is None or "vivace" not in pauses:
        return f"{workload}: p99 between tokens was not compared", False
    ours, theirs = pauses["vivace"], pauses[best[0]]
    line = f"{workload}: p99 between tokens {ours:.0f} ms, {best[0]} {theirs:.0f} ms"
    return line, ours <= theirs


def _trace(isa: str) -> Outcome:
    result = _benchmark("mixed_trace.py", isa)
    same, others = result["ratios"]["vivace bfloat16"], result["ratios"]["vivace int8"]
    return Outcome(
        f"mixed lengths: {same:.1f} times Transformers' static batches in bfloat16 (with int8 "
        f"weights {others:.1f} times)",
        same >= TRACE_BAR,
        figures={"mixed_trace": result},
    )
