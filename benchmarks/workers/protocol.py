"""Workers that hold one engine each and time one task at a time, when told to.

A worker is a process of its own, maybe in another environment. It is given a Job as its only
argument, writes {"ready": ...} when its model is loaded, then answers each line
{"task": NAME, "numbers": [...]} with {"value": ...} or {"error": ...}. Between its turns it is
stopped (SIGSTOP): threads that an engine leaves spinning would take time from the others.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import perf_counter
from typing import IO, Any, Protocol


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


def mixed_lengths(first: int, count: int) -> list[tuple[int, int]]:
    """(prompt tokens, answer tokens) of so many requests of an endless trace, which differ as those
    of many users do: short ones are common, long ones are not rare."""
    random = Random(0)
    trace = [
        (_log_uniform(random, 16, 256), _log_uniform(random, 8, 256)) for _ in range(first + count)
    ]
    return trace[first:]


def _log_uniform(random: Random, low: int, high: int) -> int:
    return round(low * (high / low) ** random.random())


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
    """Bytes: the most that was resident at once, mapped files too. Linux counts in ru_maxrss what
    the process that started this one held."""
    status = Path("/proc/self/status").read_text()
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return 1024.0 * int(peak)
