"""What the server itself costs: processor time by token and by request, model and engine aside.

    python benchmarks/frontend.py [--rounds 5]

vivace's server stands in front of an engine that computes nothing and gives every stream a token
at a fixed pace, slow enough for the server to keep up: tokens that it put together would be
cheaper. vLLM's stands in front of its own engine, which has a process of its own too, with a model
so small that it hardly matters. Counted is the processor time of the HTTP process alone, while as
many streams as there are clients run, and then while requests of one token follow one another.
Both write an access log to a file. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from frontend_load import Load, drive
from peers.environments import AbsentError, log_file
from peers.small_vllm import small_vllm

WORKERS = Path(__file__).parent / "workers"
STEP_MS = 25.0
STREAMS = Load(clients=32, requests=32, tokens=256)
SHORT = Load(clients=8, requests=256, tokens=1)


@dataclass(frozen=True)
class Server:
    """Attributes:
    http: its HTTP process.
    """

    url: str
    http: psutil.Process


def main() -> None:
    parser = argparse.ArgumentParser(description="What the server itself costs.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-peers", action="store_true")
    given = parser.parse_args()
    servers: dict[str, Any] = {}
    with vivace() as server:
        servers["vivace"] = measured(server, given.rounds)
    if not given.without_peers:
        try:
            with small_vllm() as (url, http):
                servers["vLLM"] = measured(Server(url, http), given.rounds)
        except AbsentError as error:
            servers["vLLM"] = {"absent": str(error)}
    print(json.dumps({"step_ms": STEP_MS, "servers": servers}, indent=1))


@contextmanager
def vivace() -> Iterator[Server]:
    command = [sys.executable, str(WORKERS / "null_server.py"), "0", str(STEP_MS)]
    log = log_file("frontend-vivace")
    with (
        open(log, "w") as output,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output, text=True) as process,
    ):
        assert process.stdout is not None
        url = process.stdout.readline().split()[4]
        try:
            yield Server(url, psutil.Process(process.pid))
        finally:
            process.terminate()


def measured(server: Server, rounds: int) -> dict[str, Any]:
    """Medians of the rounds, after one that warms up."""
    measure(server, STREAMS)
    streams = [measure(server, STREAMS) for _ in range(rounds)]
    short = [measure(server, SHORT) for _ in range(rounds)]
    return {
        "tokens_per_cpu_second": median(one["tokens"] / one["seconds"] for one in streams),
        "events_per_token": median(one["events"] / one["tokens"] for one in streams),
        "us_per_token": median(1e6 * one["seconds"] / one["tokens"] for one in streams),
        "us_per_request": median(1e6 * one["seconds"] / one["requests"] for one in short),
        "rounds": rounds,
    }


def measure(server: Server, load: Load) -> dict[str, float]:
    before = server.http.cpu_times()
    tokens, events = drive(server.url, load)
    after = server.http.cpu_times()
    seconds = after.user + after.system - before.user - before.system
    return {"seconds": seconds, "tokens": tokens, "events": events, "requests": load.requests}


if __name__ == "__main__":
    main()
