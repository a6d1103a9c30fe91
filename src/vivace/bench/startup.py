"""`bench startup`: from the start of a process to its first token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from statistics import median_low
from tempfile import TemporaryDirectory, TemporaryFile
from time import perf_counter
from typing import Any

from vivace.bench.plans import StartupPlan
from vivace.core.config import EngineConfig
from vivace.core.errors import VivaceError
from vivace.core.folders import user_cache

Report = Callable[[int, int], None]

# The parts of a start, in their order; together they are total_startup_time.
PARTS = ("process_time", "load_time", "first_token_time")


def measure_startup(
    config: EngineConfig, plan: StartupPlan, report: Report | None = None
) -> dict[str, Any]:
    """Start a process again and again; each loads the model and draws one token.

    They share a cache of packed weights that is empty at first and removed in the end: the first
    start stands apart, as it packs what the later ones find. Of these the one with the median
    total is reported, so that its parts add up: `process_time` is what the process took for all
    but loading and the token, which is the interpreter, its imports and its first output.

    Raises:
        VivaceError: a process failed; the text is its last line.
    """
    starts = []
    with empty_cache() as environment:
        for iteration in range(plan.num_iters + 1):
            starts.append(start_once(config, plan.input_len, environment))
            if report is not None:
                report(iteration + 1, plan.num_iters + 1)
    first, *later = starts
    totals = [start["total_startup_time"] for start in later]
    return {
        **later[totals.index(median_low(totals))],
        "startup_times": totals,
        "first_start": {name: first[name] for name in ("total_startup_time", *PARTS)},
    }


@contextmanager
def empty_cache() -> Iterator[dict[str, str]]:
    """This process' environment, but with a cache folder of its own, on the same disk.

    What the hub has downloaded stays where it is. Raises as `user_cache`.
    """
    usual = user_cache()
    usual.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="vivace-startup-", dir=usual) as folder:
        hub = os.environ.get("HF_HOME", str(usual / "huggingface"))
        yield {**os.environ, "XDG_CACHE_HOME": folder, "HF_HOME": hub}


def start_once(
    config: EngineConfig, input_len: int, environment: Mapping[str, str]
) -> dict[str, Any]:
    """One start: what the process said of itself, the time until it did, and the rest of it."""
    command = [sys.executable, "-m", "vivace.bench.first_token"]
    arguments = [json.dumps(asdict(config)), str(input_len)]
    with TemporaryFile("w+") as errors:  # a pipe that nobody reads yet would stop the process
        started = perf_counter()
        with subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            total = perf_counter() - started
            process.communicate()
        errors.seek(0)
        said = errors.read()
    if process.returncode:
        raise VivaceError(_last_line(said) or _ending(process.returncode))
    found: dict[str, Any] = json.loads(line)
    rest = total - found["load_time"] - found["first_token_time"]
    return {"total_startup_time": total, "process_time": rest, **found}


def _last_line(errors: str) -> str:
    """What a traceback ends in, without the error's class."""
    lines = errors.strip().split("\n")
    return lines[-1].partition(": ")[2] or lines[-1]


def _ending(returncode: int) -> str:
    how = f"exit code {returncode}" if returncode > 0 else f"signal {-returncode}"
    return f"The process ended with {how} and gave no reason."
