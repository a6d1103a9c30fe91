"""Concurrent clients against vivace's server and the peers' servers that batch.

    python benchmarks/serving.py [--servers vivace vllm transformers] [--isa avx512]

Each server is started alone with the random-weight 1.1B model and driven by `vivace bench serve` at
1, 4 and 16 concurrent clients, then stopped; so runs are not interleaved, and whole servers take
turns `--rounds` times. Prints one JSON object: per server, workload and number of clients,
every round's output tokens per second and 99th percentile of the time between tokens. A figure
counts only if the server itself counted as many tokens as were asked for; else it is absent, with
the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from peers import models
from peers.environments import FOLDER, PEERS, AbsentError, install

from vivace.hardware.machine import usable_cores

PRESET = "1.1b"
WORKLOADS = {"32+256": (32, 256), "256+64": (256, 64)}
CLIENTS = (1, 4, 16)
REQUESTS_PER_CLIENT = 2
START_SECONDS = 300
WARM_UP = (32, 16)
Turn = dict[str, dict[str, dict[str, float]]]  # by workload and number of clients
WORKERS = Path(__file__).parent / "workers"


@dataclass(frozen=True)
class Server:
    """`command` after the environment's `python` and its variables; {model}, {port}, {threads} and
    {cores}, one for each thread, are filled in."""

    peer: str
    model: str
    command: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()
    no_amx_variables: tuple[tuple[str, str], ...] = ()


SERVERS = {
    "vivace": Server(
        "vivace",
        "safetensors",
        (
            *("-m", "vivace", "serve", "{model}", "--port", "{port}", "--threads", "{threads}"),
            *("--quantize", "int8"),
        ),
    ),
    "vllm": Server(
        "vllm",
        "w8a8",
        (
            *(str(WORKERS / "vllm_server.py"), "--model", "{model}"),
            *("--port", "{port}", "--max-model-len", "2048", "--max-num-seqs", "32"),
        ),
        # By itself it keeps a core free for its other processes.
        (("VLLM_CPU_KVCACHE_SPACE", "2"), ("VLLM_CPU_OMP_THREADS_BIND", "{cores}")),
        (("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16"), ("VLLM_NO_TILES", "1")),
    ),
    "transformers": Server(
        "transformers",
        "safetensors",
        (
            *("-m", "transformers.cli.transformers", "serve", "{model}", "--port", "{port}"),
            *("--continuous-batching", "--device", "cpu", "--dtype", "bfloat16"),
        ),
        no_amx_variables=(("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16"),),
    ),
}


@contextmanager
def running(server: Server, threads: int, isa: str) -> Iterator[str]:
    """The URL of a server that answers.

    Raises:
        AbsentError: it did not start in time.
    """
    port = _free_port()
    places = {
        "model": models.build(PRESET, server.model),
        "port": port,
        "threads": threads,
        "cores": ",".join(map(str, sorted(os.sched_getaffinity(0))[:threads])),
    }
    command = [str(PEERS[server.peer].python), *(part.format(**places) for part in server.command)]
    variables = PEERS[server.peer].variables(threads)
    variables |= {name: value.format(**places) for name, value in server.variables}
    if isa == "avx512":
        command = [sys.executable, str(WORKERS / "no_amx.py"), *command]
        variables |= dict(server.no_amx_variables)
    FOLDER.joinpath("logs").mkdir(parents=True, exist_ok=True)
    with open(FOLDER / "logs" / f"server-{server.peer}.txt", "w") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **variables},
            start_new_session=True,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, process)
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise AbsentError(f"its server ended with {process.returncode}")
        try:
            with urllib.request.urlopen(f"{url}/v1/models", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AbsentError(f"its server did not answer within {START_SECONDS} s")


def drive(url: str, clients: int, lengths: tuple[int, int]) -> dict[str, float]:
    """Every client sends its requests one after the other.

    Raises:
        AbsentError: not all were answered, or not with the tokens asked for.
    """
    prompt, answer = lengths
    command = [sys.executable, "-m", "vivace", "bench", "serve", "--json", "--ignore-eos"]
    command += ["--base-url", url, "--max-concurrency", str(clients)]
    command += ["--num-prompts", str(clients * REQUESTS_PER_CLIENT)]
    command += ["--input-len", str(prompt), "--output-len", str(answer)]
    command += ["--text-prompts", "--tokenizer", str(models.hugging_face(PRESET))]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if process.returncode:
        raise AbsentError(f"vivace bench serve ended with {process.returncode}")
    result = json.loads(process.stdout)
    check(result, clients * REQUESTS_PER_CLIENT, answer)
    return {name: result[name] for name in ("output_throughput", "p99_itl_ms")}


def check(result: dict[str, Any], requests: int, answer: int) -> None:
    """Raises AbsentError unless every request was answered, in tokens that the server counted."""
    if result["completed"] != requests:
        raise AbsentError(f"only {result['completed']} of {requests} requests were answered")
    if not result["output_tokens_counted_by_server"]:
        raise AbsentError("its server does not count the tokens of an answer")
    if result["total_output_tokens"] != requests * answer:
        tokens = result["total_output_tokens"]
        raise AbsentError(f"its answers have {tokens} tokens, not {requests * answer}")


def measure(name: str, given: argparse.Namespace, absent: dict[str, str]) -> Turn:
    """One turn of one server; what it fails in is left out, and said in `absent`."""
    install(SERVERS[name].peer)
    turn: Turn = {workload: {} for workload in WORKLOADS}
    with running(SERVERS[name], given.threads, given.isa) as url:
        for workload, clients in product(WORKLOADS, CLIENTS):
            figures = tried(url, clients, WORKLOADS[workload])
            if isinstance(figures, AbsentError):
                absent[f"{name} at {workload}, {clients} clients"] = str(figures)
            else:
                turn[workload][str(clients)] = figures
    return turn


def tried(url: str, clients: int, lengths: tuple[int, int]) -> dict[str, float] | AbsentError:
    """Warmed up with as many clients; or why it cannot be measured."""
    try:
        drive(url, clients, WARM_UP)
        return drive(url, clients, lengths)
    except AbsentError as error:
        return error


def main() -> None:
    parser = argparse.ArgumentParser(description="Serving beside the peers' servers.")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--isa", choices=("native", "avx512"), default="native")
    given = parser.parse_args()
    takes = 6 * given.rounds * len(given.servers)
    print(f"This takes about {takes} minutes.", file=sys.stderr, flush=True)
    models.hugging_face(PRESET)
    turns: dict[str, list[Any]] = {name: [] for name in given.servers}
    absent: dict[str, str] = {}
    for _ in range(given.rounds):
        for name in given.servers:
            if name not in absent:
                take_turn(name, turns[name], absent, given)
    print(json.dumps({"isa": given.isa, "servers": turns, "absent": absent}, indent=1))


def take_turn(
    name: str, turns: list[Any], absent: dict[str, str], given: argparse.Namespace
) -> None:
    try:
        turns.append(measure(name, given, absent))
    except AbsentError as error:
        absent[name] = str(error)
        print(f"{name} is absent: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
