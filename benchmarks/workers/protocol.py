"""Workers that hold one engine each and time one task at a time, when told to.

A worker is a process of its own, maybe in another environment. It is given a Job as its only
argument, writes {"ready": ...} when its model is loaded, then answers each line
{"task": NAME, "numbers": [...]} with {"value": ...} or {"error": ...}. Between its turns it is
stopped (SIGSTOP): threads that an engine leaves spinning would take time from the others.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from time import perf_counter
from types import TracebackType
from typing import IO, Any, Protocol

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Job:
    """What a worker is to hold.

    Attributes:
        model: the checkpoint, in the engine's own format.
        format: what the engine is told about its weights, where the checkpoint does not say it.
        sequences: how many run at once at most.
        max_len: tokens of the longest prompt plus answer.
        isa: "native", or "avx512": instructions up to AVX-512, no AMX.
        runs: how often each task is run, warm-ups too.
    """

    model: str
    format: str = "bfloat16"
    threads: int = 1
    sequences: int = 32
    max_len: int = 2112
    isa: str = "native"
    runs: int = 8


class Engine(Protocol):
    """What a worker does with its model; every time is in seconds.

    Attributes:
        about: versions and settings.
    """

    about: dict[str, Any]

    def prefill(self, tokens: int) -> float:
        """From a prompt of random tokens, never seen before, to the first new token."""

    def decode(self, batch: int, context: int, steps: int) -> float:
        """So many steps of so many sequences, each of which has a cache of `context` tokens."""


class WorkerError(Exception):
    """A worker could not do what it was told; the message is its own."""


# --- outside --------------------------------------------------------------------------------------


class Worker:
    """A worker process, from the outside; stopped unless it has something to do."""

    def __init__(
        self,
        script: str,
        job: Job,
        python: str | Path = sys.executable,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        command = [str(python), str(FOLDER / script), json.dumps(asdict(job))]
        self._log: IO[str] | None = None if log is None else open(log, "w")  # noqa: SIM115
        started = perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **(environment or {})},
            preexec_fn=os.setpgrp,  # a group that outlives us is continued and ended by the kernel
        )
        try:
            self.about: dict[str, Any] = self._answer("ready")
        except WorkerError:
            self.close()
            raise
        self.ready_seconds = perf_counter() - started
        self._stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def call(self, task: str, *numbers: int) -> float:
        """One run of a task: "prefill", "decode" or whatever else the worker knows.

        Raises:
            WorkerError: it could not do it, or has ended.
        """
        self._signal(signal.SIGCONT)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"task": task, "numbers": numbers}) + "\n")
            self._process.stdin.flush()
            return float(self._answer("value"))
        except BrokenPipeError:
            raise WorkerError("it has ended") from None
        finally:
            self._stop()

    def close(self) -> None:
        self._signal(signal.SIGCONT)
        try:
            self._process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.communicate()
        if self._log is not None:
            self._log.close()

    def _answer(self, key: str) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"it ended with {self._process.wait()}")
        answer = json.loads(line)
        if key not in answer:
            raise WorkerError(answer["error"])
        return answer[key]

    def _stop(self) -> None:
        """Returns when it stands still, so that the next turn begins on a quiet machine."""
        if not self.has_ended:
            self._signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


def mixed_lengths(count: int) -> list[tuple[int, int]]:
    """(prompt tokens, answer tokens) of requests that differ as those of many users do: short ones
    are common, long ones are not rare."""
    random = Random(0)
    return [(_log_uniform(random, 16, 256), _log_uniform(random, 8, 256)) for _ in range(count)]


def _log_uniform(random: Random, low: int, high: int) -> int:
    return round(low * (high / low) ** random.random())


# --- inside ---------------------------------------------------------------------------------------


def serve(load: Callable[[Job], Engine]) -> None:
    """Load, then answer until standard input ends. What the engine prints goes to stderr."""
    answers = _private_stdout()
    job = Job(**json.loads(sys.argv[1]))
    if job.isa == "avx512":
        from no_amx import refuse_amx

        refuse_amx()
    started = perf_counter()
    try:
        engine = load(job)
    except Exception as error:
        _answer(answers, error=_described(error))
        return
    _answer(answers, ready={**engine.about, "load_seconds": perf_counter() - started})
    for line in sys.stdin:
        order = json.loads(line)
        task = _peak_memory if order["task"] == "peak_memory" else getattr(engine, order["task"])
        try:
            _answer(answers, value=task(*order["numbers"]))
        except Exception as error:
            _answer(answers, error=_described(error))


def _private_stdout() -> IO[str]:
    """Our own copy of standard output; what others print there goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _answer(answers: IO[str], **answer: Any) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _described(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _peak_memory() -> float:
    """Bytes: the most that was resident at once, mapped files too."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
