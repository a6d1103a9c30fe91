"""The contenders that have a server which batches: how it is started, and kept still meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from socket import socket

from peers import models
from peers.contenders import CONTENDERS, Contender
from peers.environments import FOLDER, PEERS, PINNED, AbsentError, install, log_file
from peers.process_group import ProcessGroup

WORKERS = Path(__file__).parents[1] / "workers"
START_SECONDS = 120.0  # vLLM takes 60 on two cores
END_SECONDS = 20.0


@dataclass(frozen=True)
class Server:
    """How a contender's server is started.

    Attributes:
        contender: its name.
        peer: whose environment holds the server.
        command, variables: {python} and {folder} of the environment, {model}, {format}, {port} and
            {threads} are filled in.
        no_amx_variables: where AMX is refused, beside those of the contender.
        asked: how `vivace bench serve` asks it for answers that do not end by themselves; {model}
            is filled in.
    """

    contender: str
    peer: str
    command: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()
    no_amx_variables: tuple[tuple[str, str], ...] = ()
    asked: tuple[str, ...] = ("--ignore-eos",)


def _vivace(name: str) -> Server:
    serve = ("{python}", "-m", "vivace", "serve", "{model}", "--port", "{port}")
    options = ("--threads", "{threads}", "--quantize", "{format}", "--kv-memory", "1.5GiB")
    return Server(name, "vivace", (*serve, *options))


# Not bound it serves most: 1.1 to 1.3 times what it does bound to both cores, or by its default,
# which keeps one of them free.
VLLM = Server(
    "vLLM W8A8",
    "vllm",
    (
        *("{python}", str(WORKERS / "vllm_server.py"), "--model", "{model}", "--port", "{port}"),
        *("--max-model-len", "2048", "--max-num-seqs", "32"),
    ),
    (
        ("VLLM_CPU_KVCACHE_SPACE", "2"),
        ("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
        ("OMP_NUM_THREADS", "{threads}"),
    ),
    (("VLLM_NO_TILES", "1"),),
)
LLAMA_CPP = Server(
    "llama.cpp Q8_0",
    "llama.cpp server",
    (
        *("{folder}/bin/llama-server", "--model", "{model}", "--port", "{port}"),
        *("--threads", "{threads}", "--parallel", "16", "--ctx-size", "16384"),
    ),
)
TRANSFORMERS = Server(
    "Transformers bfloat16",
    "transformers server",
    (
        *("{python}", "-m", "transformers.cli.transformers", "serve", "{model}"),
        *("--port", "{port}", "--continuous-batching", "--device", "cpu", "--dtype", "bfloat16"),
    ),
    # Asked for its models, it lists the hub's cache, and fails where there is none.
    (("OMP_NUM_THREADS", "{threads}"), *PINNED.items(), ("HF_HUB_CACHE", "{folder}")),
    # It lists no model that is not in that cache, and refuses fields that it does not know.
    asked=("--model", "{model}", "--extra-body", '{{"generation_config": "{{}}"}}'),
)
OURS = (_vivace("vivace int8"), _vivace("vivace int4-g128"))
OTHERS = (LLAMA_CPP, TRANSFORMERS)  # beside vLLM
SERVERS = {server.contender: server for server in (*OURS, VLLM, *OTHERS)}


@dataclass(frozen=True)
class Running:
    """A server that answers, and stands still outside of `awake`.

    Attributes:
        url: where it listens.
        start_seconds: until it answered.
        asked: as of its Server.
    """

    url: str
    start_seconds: float
    asked: tuple[str, ...]
    group: ProcessGroup

    @contextmanager
    def awake(self) -> Iterator[None]:
        self.group.resume()
        try:
            yield
        finally:
            self.group.stop()


@contextmanager
def running(server: Server, preset: str, threads: int, isa: str) -> Iterator[Running]:
    """A server, started and stopped.

    Raises:
        AbsentError: it could not be installed, or did not start in time.
    """
    contender = CONTENDERS[server.contender]
    install(server.peer)
    port = free_port()
    places = _places(server, contender, preset, threads) | {"port": port}
    command = [part.format(**places) for part in server.command]
    variables = {name: value.format(**places) for name, value in server.variables}
    if isa == "avx512":
        command = [sys.executable, str(WORKERS / "no_amx.py"), *command]
        variables |= {**contender.no_amx_variables, **dict(server.no_amx_variables)}
    log = log_file(f"server-{server.contender.replace(' ', '-')}")
    started = time.monotonic()
    with open(log, "w") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **variables},
            preexec_fn=os.setpgrp,
        )
    group = ProcessGroup(process)
    try:
        url = f"http://127.0.0.1:{port}"
        await_answer(url, process)
        asked = tuple(part.format(**places) for part in server.asked)
        found = Running(url, time.monotonic() - started, asked, group)
        group.stop()
        yield found
    finally:
        group.end(END_SECONDS)


def _places(server: Server, contender: Contender, preset: str, threads: int) -> dict[str, object]:
    peer = PEERS[server.peer]
    return {
        "python": peer.python,
        "folder": FOLDER / (peer.folder or ""),
        "model": models.build(preset, contender.model),
        "format": contender.format,
        "threads": threads,
    }


def free_port() -> int:
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def await_answer(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise AbsentError(f"its server ended with {process.returncode}")
        try:
            with urllib.request.urlopen(f"{url}/v1/models", timeout=2):
                return
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE:  # which says that it still loads
                raise AbsentError(f"its server answers {error.code} to GET /v1/models") from error
        except OSError:
            pass  # it does not listen yet
        time.sleep(0.2)
    raise AbsentError(f"its server did not answer within {START_SECONDS:.0f} s")
