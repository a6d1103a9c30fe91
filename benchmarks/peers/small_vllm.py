"""vLLM's server with a model so small that its front end is most of the work."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from peers.environments import PEERS, AbsentError, install, log_file
from peers.servers import END_SECONDS, WORKERS, await_answer, free_port

from vivace.formats.hub import resolve_model

ENGINE = "EngineCore"  # what its engine's process calls itself


@contextmanager
def small_vllm() -> Iterator[tuple[str, psutil.Process]]:
    """Where it listens, and its HTTP process.

    Raises:
        AbsentError: it could not be installed, or did not start in time.
    """
    install("vllm")
    model = resolve_model(None, lambda line: None).parent / "vivace-draft"
    port = free_port()
    log = log_file("frontend-vllm")
    command = [str(PEERS["vllm"].python), str(WORKERS / "vllm_server.py"), "--model", str(model)]
    command += ["--port", str(port), "--max-num-seqs", "32", "--max-model-len", "512"]
    variables = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with open(log, "w") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **variables, "OMP_NUM_THREADS": "1"},
        )
    try:
        url = f"http://127.0.0.1:{port}"
        await_answer(url, process)
        http = psutil.Process(process.pid)
        if not any(ENGINE in " ".join(one.cmdline()) for one in http.children(recursive=True)):
            raise AbsentError("its engine has no process of its own")
        yield url, http
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
