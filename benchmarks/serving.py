"""Concurrent clients against vivace's server and the peers' servers that batch.

    python benchmarks/serving.py [--servers "vivace int8" "vLLM W8A8" ...] [--isa avx512]

Each server is started once with the random-weight 1.1B model and driven by `vivace bench serve`;
whoever is not driven stands still. A first turn of each warms up, and chooses among the peers
beside vLLM: only the best of them goes on. In a round, every case is measured at each server, one
right after the other, except at peers that are far behind another one in it. Prints one JSON
object: per server, case and round, output tokens per second and the 99th percentile of the time
between tokens. A figure counts only if the server itself
counted as many tokens as were asked for; else the server is absent, with the reason.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from peers import models
from peers.environments import AbsentError
from peers.servers import OTHERS, OURS, SERVERS, Running, running

from vivace.hardware.machine import usable_cores

PRESET = "1.1b"
FIGURES = ("output_throughput", "p99_itl_ms")


@dataclass(frozen=True)
class Case:
    """So many clients, each with one request after the other.

    Attributes:
        prompt, answer: their tokens.
        requests: of all clients together.
    """

    prompt: int
    answer: int
    clients: int
    requests: int

    @property
    def name(self) -> str:
        return f"{self.prompt}+{self.answer} x{self.clients}"


# Enough requests for 2 to 20 seconds each.
CASES = (Case(256, 64, 1, 1), Case(256, 64, 4, 4), Case(256, 64, 16, 32), Case(32, 256, 16, 16))
WARM_UP = Case(256, 64, 16, 16)


@dataclass
class Results:
    """Of one server.

    Attributes:
        warm_up: figures of the first turn.
        cases: by name, the figures of each round in which it was measured.
        absent: why it could not be measured, or None.
        left_out: whether another one of OTHERS was better.
    """

    start_seconds: float | None = None
    warm_up: dict[str, float] = field(default_factory=dict)
    cases: dict[str, list[dict[str, float]]] = field(
        default_factory=lambda: {case.name: [] for case in CASES}
    )
    absent: str | None = None
    left_out: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description="Serving beside the peers' servers.")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--isa", choices=("native", "avx512"), default="native")
    given = parser.parse_args()
    _report(f"This takes about {8 + 4 * given.rounds} minutes, once all is installed.")
    models.hugging_face(PRESET)
    results = compare(given)
    servers = {name: vars(one) for name, one in results.items()}
    print(json.dumps({"isa": given.isa, "rounds": given.rounds, "servers": servers}, indent=1))


def compare(given: argparse.Namespace) -> dict[str, Results]:
    results = {name: Results() for name in given.servers}
    with ExitStack() as stack:
        servers = {}
        for name, one in results.items():
            _report(f"{name}: starting, warming up")
            try:
                server = running(SERVERS[name], PRESET, given.threads, given.isa)
                servers[name] = stack.enter_context(server)
                one.start_seconds = servers[name].start_seconds
                one.warm_up = drive(servers[name], WARM_UP, 0)
            except AbsentError as error:
                one.absent = str(error)
                _report(f"{name} is absent: {error}")
        leave_out(results)
        for done in range(given.rounds):
            measure(servers, results, done)
            _report(f"round {done + 1} of {given.rounds}")
    return results


def leave_out(results: dict[str, Results]) -> None:
    """Of the peers beside vLLM, all but the best."""
    others = [server.contender for server in OTHERS if server.contender in results]
    able = [name for name in others if results[name].absent is None]
    able.sort(key=lambda name: results[name].warm_up["output_throughput"])
    for name in able[:-1]:
        results[name].left_out = True


def measure(servers: dict[str, Running], results: dict[str, Results], done: int) -> None:
    """One round; another one goes first in each, so that nobody always comes after the same."""
    present = [name for name, one in results.items() if one.absent is None and not one.left_out]
    first = done % max(len(present), 1)
    for seed, case in enumerate(CASES, 1 + done * len(CASES)):
        for name in present[first:] + present[:first]:
            if results[name].absent is None and not is_far_behind(results, name, case):
                measure_once(servers[name], results[name], case, seed)


def is_far_behind(results: dict[str, Results], name: str, case: Case) -> bool:
    """Whether a peer had less than half of the best one's rate: more rounds would not make it the
    best, and at a slow server they take longest."""
    ours = {server.contender for server in OURS}
    rates = {
        peer: median(round_["output_throughput"] for round_ in one.cases[case.name])
        for peer, one in results.items()
        if peer not in ours and one.absent is None and one.cases[case.name]
    }
    return name in rates and rates[name] < max(rates.values()) / 2


def measure_once(server: Running, one: Results, case: Case, seed: int) -> None:
    try:
        one.cases[case.name].append(drive(server, case, seed))
    except AbsentError as error:
        one.absent = f"it failed with {case.name}: {error}"


def drive(server: Running, case: Case, seed: int) -> dict[str, float]:
    """Every client sends its requests one after the other.

    Args:
        seed: of the prompts; another one each time, or a server would know them.

    Raises:
        AbsentError: not all were answered, or not with the tokens asked for.
    """
    command = [sys.executable, "-m", "vivace", "bench", "serve", "--json", *server.asked]
    command += ["--base-url", server.url, "--max-concurrency", str(case.clients)]
    command += ["--num-prompts", str(case.requests), "--seed", str(seed)]
    command += ["--input-len", str(case.prompt), "--output-len", str(case.answer)]
    command += ["--text-prompts", "--tokenizer", str(models.build(PRESET, "safetensors"))]
    with server.awake():
        process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise AbsentError(f"vivace bench serve failed: {process.stderr.strip()[-200:]}")
    result = json.loads(process.stdout)
    check(result, case)
    return {name: result[name] for name in FIGURES}


def check(result: dict[str, Any], case: Case) -> None:
    """Raises AbsentError unless every request was answered, in tokens that the server counted."""
    if result["completed"] != case.requests:
        raise AbsentError(f"only {result['completed']} of {case.requests} requests were answered")
    if not result["output_tokens_counted_by_server"]:
        raise AbsentError("its server does not count the tokens of an answer")
    tokens = result["total_output_tokens"]
    if tokens != case.requests * case.answer:
        wanted = case.requests * case.answer
        raise AbsentError(f"its answers have {tokens} tokens, not {wanted}")


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
