"""Running a program of benchmarks/ for its JSON object."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from claims.row import Outcome

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


def run_benchmark(
    script: str, *arguments: str, minutes: float | None = None, isa: str | None = None
) -> dict[str, Any]:
    """What it prints.

    Args:
        minutes: after which it is ended; None lets it run.
        isa: the level of the kernels; None is the machine's best.

    Raises:
        CalledProcessError: it failed.
        TimeoutExpired: it did not end in time.
    """
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    limit = None if minutes is None else 60 * minutes
    process = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=limit,
        env=os.environ if isa is None else {**os.environ, "VIVACE_ISA": isa},
    )
    return dict(json.loads(process.stdout))


def judged(
    script: str, minutes: float, judge: Callable[[dict[str, Any]], Outcome], *arguments: str
) -> Callable[[], Outcome]:
    """A row's proof: what a program prints within so many minutes, and what that means."""
    return lambda: judge(run_benchmark(script, *arguments, minutes=minutes))
