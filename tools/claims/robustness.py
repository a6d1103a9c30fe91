"""Rows 1, 2, 5 and 6 of serving: clients, fuzzing, a long load, and what the front end costs."""

from __future__ import annotations

from typing import Any

from claims.benchmark import run_benchmark
from claims.by_tests import tests_pass
from claims.row import Outcome, all_of, attempt, missing

NATS = 1e-3
CASES = 20_000
CONNECTIONS = 3_000
FUZZED_MEMORY = 1.05  # times that before; a heap is never quite as it was
SOAK_MINUTES = 20
MEMORY_BAR, LATENCY_BAR = 1.02, 1.25
TOKENS_BAR = 3_000
OWN_EVENTS = 0.99  # events for each token: the rest was put together


def clients() -> Outcome:
    scripts = attempt(tests_pass, "tests/clients")
    return all_of(scripts, attempt(lambda: lm_eval(run_benchmark("lm_eval_server.py", minutes=10))))


def lm_eval(result: dict[str, Any]) -> Outcome:
    if result["absent"] is not None:
        return missing(result["absent"])
    told, own = result["told"], result["own"]
    apart = [abs(ours - theirs) for (ours, _), (theirs, _) in zip(own, told, strict=True)]
    greedy = sum(ours == theirs for (_, ours), (_, theirs) in zip(own, told, strict=True))
    measured = (
        f"lm-eval: {len(told)} log-likelihoods at most {max(apart):.1e} nats from those of "
        f"LLM.logits, {greedy} of {len(told)} greedy flags equal"
    )
    holds = max(apart) <= NATS and greedy == len(told)
    return Outcome(measured, holds, figures={"lm_eval": result})


def fuzz() -> Outcome:
    return all_of(
        attempt(lambda: schema(run_benchmark("schema_fuzz.py", minutes=25))),
        attempt(lambda: wire(run_benchmark("wire_fuzz.py", minutes=5))),
    )


def schema(result: dict[str, Any]) -> Outcome:
    if result["absent"] is not None:
        return missing(result["absent"])
    cases = result["cases"]
    said = "with failures" if result["failed"] else "no failure"
    measured = (
        f"schemathesis: {cases} cases of {result['operations']} operations, {said}; "
        f"{result['requests_run']:.0f} requests came to the engine"
    )
    holds = cases >= CASES and not result["failed"] and result["idle_afterwards"]
    return Outcome(measured, holds, figures={"schema_fuzz": result})


def wire(result: dict[str, Any]) -> Outcome:
    files, memory = result["open_files"], result["resident_bytes"]
    grown = {name: memory["after"][name] / memory["before"][name] for name in memory["before"]}
    measured = (
        f"{result['connections']} broken connections: {result['streams_changed']} of "
        f"{result['streams_beside']} streams beside them changed, {result['restarts']:.0f} "
        f"restarts, open files {files['before']} then {files['after']}, memory of the server "
        f"{grown['server']:.3f} times and of the engine {grown['engine']:.3f} times that before"
    )
    holds = (
        result["connections"] >= CONNECTIONS
        and result["streams_beside"] > 0
        and not result["streams_changed"]
        and not result["restarts"]
        and result["idle_afterwards"]
        and all(files["after"][name] <= files["before"][name] for name in files["before"])
        and max(grown.values()) <= FUZZED_MEMORY
    )
    return Outcome(measured, holds, figures={"wire_fuzz": result})


def soak(result: dict[str, Any]) -> Outcome:
    memory = {name: _change(result[f"{name}_bytes"]) for name in ("server", "engine")}
    latency = {name: _change(result[f"p99_{name}"]) for name in ("first_token", "between_tokens")}
    measured = (
        f"{sum(result['requests'].values())} requests in {result['minutes']:.0f} minutes, "
        f"{result['wrong']} wrong; late beside early: memory of the server "
        f"{memory['server']:.3f} times, of the engine {memory['engine']:.3f} times, p99 to the "
        f"first token {latency['first_token']:.2f} times, between tokens "
        f"{latency['between_tokens']:.2f} times"
    )
    holds = (
        result["minutes"] >= SOAK_MINUTES
        and not result["wrong"]
        and not result["restarts"]
        and result["idle_afterwards"]
        and max(memory.values()) <= MEMORY_BAR
        and max(latency.values()) <= LATENCY_BAR
    )
    return Outcome(measured, holds, figures={"soak": result})


def _change(early_and_late: list[float]) -> float:
    early, late = early_and_late
    return late / early


def frontend(result: dict[str, Any]) -> Outcome:
    """vLLM's figures are told, not judged."""
    ours, theirs = result["servers"]["vivace"], result["servers"]["vLLM"]
    rate = ours["tokens_per_cpu_second"]
    beside = (
        f"vLLM is absent: {theirs['absent']}" if "absent" in theirs else f"vLLM {_cost(theirs)}"
    )
    measured = f"{rate:.0f} streamed tokens per CPU-second, {_cost(ours)}; {beside}"
    holds = rate >= TOKENS_BAR and ours["events_per_token"] >= OWN_EVENTS
    return Outcome(measured, holds, figures={"frontend": result})


def _cost(server: dict[str, Any]) -> str:
    per_token, per_request = server["us_per_token"], server["us_per_request"]
    return f"{per_token:.0f} us a token and {per_request:.0f} us a request of one token"
