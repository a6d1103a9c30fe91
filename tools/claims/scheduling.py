"""Rows 1 to 4: what is lossless, and who waits for whom."""

from __future__ import annotations

from typing import Any

from claims.row import Outcome, all_of

REQUESTS = 10_000
# Without one of these at work, equal tokens would prove little.
AT_WORK = (
    "preemptions",
    "prefetches",
    "integrity_checks",
    "engine_starts",
    "prefix_hit_tokens",
    "saved",
    "restored",
    "fetched_used",
)
TTFT_BAR = 1.5  # times the idle engine's, and a step
ITL_BAR = 1.25  # times the target
THROUGHPUT_BAR = 0.9  # times that without a target
SHARE_BAR = 1.5  # times the latency alone at its share


def lossless(result: dict[str, Any]) -> Outcome:
    at_work = result["at_work"]
    idle = [name for name in AT_WORK if not at_work[name]]
    used = ", ".join(f"{at_work[name]} {name.replace('_', ' ')}" for name in AT_WORK)
    measured = f"{result['different']} of {result['requests']} answers differ; {used}"
    if idle:
        measured += f"; never at work: {', '.join(idle)}"
    holds = result["different"] == 0 and result["requests"] >= REQUESTS and not idle
    return Outcome(measured, holds, figures={"lossless": result})


def priority(result: dict[str, Any]) -> Outcome:
    allowed = _allowed_ttft(result)
    idle, loaded = result["p99_ttft"]["idle"], result["p99_ttft"]["loaded"]
    urgent = Outcome(
        f"urgent p99 to first token {_ms(loaded)}, idle {_ms(idle)}, allowed {_ms(allowed)} with a "
        f"step of {_ms(result['p99_step'])} (p99)",
        loaded <= allowed,
        figures={"priority": result},
    )
    return all_of(urgent, _work_taken(result), _starvation(result))


def _allowed_ttft(result: dict[str, Any]) -> float:
    return float(TTFT_BAR * result["p99_ttft"]["idle"] + result["p99_step"])


def _work_taken(result: dict[str, Any]) -> Outcome:
    """Batch and urgent tokens are in equal proportion of prompts and answers, so what the batch
    work loses is the work taken if together they come as fast; noise is what the rounds of the
    batch work alone differ by."""
    rates = result["tokens_per_second"]
    slowest = min(one["batch"] for one in result["rates_by_round"])
    line = (
        f"batch and urgent work together {rates['both']:.0f} tokens/s, batch work alone "
        f"{rates['batch']:.0f} (slowest round {slowest:.0f})"
    )
    return Outcome(line, rates["both"] >= slowest)


def _starvation(result: dict[str, Any]) -> Outcome:
    """Who has aged is as good as urgent."""
    bound, ttfts = result["max_wait"], result["starved_ttfts"]
    longest = max(ttfts)
    line = (
        f"behind endless urgent work, first tokens after {min(ttfts):.2f} to {longest:.2f} s with "
        f"aging after {bound:.2f} s"
    )
    return Outcome(line, longest <= bound + _allowed_ttft(result))


def targets(result: dict[str, Any]) -> Outcome:
    engines, target = result["engines"], result["target"]
    held, free = engines["target"], engines["no target"]
    share = held["tokens_per_second"] / free["tokens_per_second"]
    measured = (
        f"p99 between tokens {_ms(held['p99_gap'])} with a target of {_ms(target)} "
        f"({held['p99_gap'] / target:.2f} times), {_ms(free['p99_gap'])} without; throughput "
        f"{share:.2f} times that without a target"
    )
    holds = held["p99_gap"] <= ITL_BAR * target and share >= THROUGHPUT_BAR
    return Outcome(measured, holds, figures={"targets": result})


def tenants(result: dict[str, Any]) -> Outcome:
    """By its latency with a target, what its tenants were promised; the rest is told."""
    share = {name: value / result["share"] for name, value in result["alone"].items()}
    beside = result["shared"]["target"]
    ratio = beside["latency"] / share["latency"]
    without = result["shared"]["no target"]["latency"] / share["latency"]
    measured = (
        f"p99 latency {beside['latency']:.2f} s beside the abusive tenant, alone at its share "
        f"{share['latency']:.2f} s: {ratio:.2f} times (without a target {without:.2f} times); p99 "
        f"to first token {_ms(beside['ttft'])}, alone at its share {_ms(share['ttft'])}"
    )
    return Outcome(measured, ratio <= SHARE_BAR, figures={"tenants": result})


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"
