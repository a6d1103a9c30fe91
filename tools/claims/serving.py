"""Row 6: serving beside the peers' servers, and a mixed trace beside static batches."""

from __future__ import annotations

from statistics import median
from typing import Any

from claims.benchmark import run_benchmark
from claims.peers_run import Bar
from claims.row import Outcome, all_of, attempt

BARS = {"32+256 x16": 1.5, "256+64 x16": 1.2}
VLLM = "vLLM W8A8"
TRACE_BAR = 4.0


def prove(isa: str) -> Outcome:
    return all_of(attempt(_servers, isa), attempt(_trace, isa))


def _servers(isa: str) -> Outcome:
    return judged(run_benchmark("serving.py", "--isa", isa))


def judged(result: dict[str, Any]) -> Outcome:
    """vLLM is needed, and one other peer at least."""
    servers = result["servers"]
    reasons = {name: one["absent"] for name, one in servers.items() if one["absent"] is not None}
    others = [name for name in servers if not _is_ours(name) and name != VLLM]
    needs = [VLLM] if any(name not in reasons for name in others) else [VLLM, *others]
    absent = "; ".join(f"{name} ({reasons[name]})" for name in needs if name in reasons) or None
    checks = [_throughput(servers, case) for case in BARS]
    pauses = [_pauses(servers, case) for case in BARS]
    held = all(check.holds for check in checks) and all(held for _, held in pauses)
    notes = [f"{name} is absent: {why}" for name, why in reasons.items() if name not in needs]
    return Outcome(
        "; ".join([*map(str, checks), *(line for line, _ in pauses), *notes]),
        held and absent is None,
        absent,
        {"serving": result},
    )


def _is_ours(name: str) -> bool:
    return name.startswith("vivace ")


def _medians(servers: dict[str, Any], case: str, figure: str, ours: bool) -> dict[str, float]:
    """By server, of those that were measured to the end."""
    return {
        name: median(round_[figure] for round_ in one["cases"][case])
        for name, one in servers.items()
        if one["absent"] is None and one["cases"][case] and _is_ours(name) == ours
    }


def _best(rates: dict[str, float]) -> tuple[str, float] | None:
    return max(rates.items(), key=lambda item: item[1], default=None)


def _throughput(servers: dict[str, Any], case: str) -> Bar:
    """Our best format beside the best peer."""
    ours, theirs = (
        _best(_medians(servers, case, "output_throughput", is_ours)) for is_ours in (True, False)
    )
    name, rate = ours or ("vivace", None)
    return Bar(f"{case}: tokens/s of {name}", rate, theirs, BARS[case])


def _pauses(servers: dict[str, Any], case: str) -> tuple[str, bool]:
    """The 99th percentile between tokens of those whose throughput is compared."""
    ours = _best(_medians(servers, case, "output_throughput", True))
    theirs = _best(_medians(servers, case, "output_throughput", False))
    if ours is None or theirs is None:
        return f"{case}: p99 between tokens was not compared", False
    pauses = _medians(servers, case, "p99_itl_ms", True)
    their_pauses = _medians(servers, case, "p99_itl_ms", False)
    our, their = pauses[ours[0]], their_pauses[theirs[0]]
    line = f"{case}: p99 between tokens {our:.0f} ms, {theirs[0]} {their:.0f} ms"
    return line, our <= their


def _trace(isa: str) -> Outcome:
    result = run_benchmark("mixed_trace.py", "--isa", isa)
    same, others = result["ratios"]["vivace bfloat16"], result["ratios"]["vivace int8"]
    return Outcome(
        f"mixed lengths: {same:.1f} times Transformers' static batches in bfloat16 (with int8 "
        f"weights {others:.1f} times)",
        same >= TRACE_BAR,
        figures={"mixed_trace": result},
    )
