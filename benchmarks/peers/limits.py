"""The machine's own limits, measured between the contenders' turns."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from peers.environments import ROOT, AbsentError, run

SOURCES = (
    "benchmarks/kernels/limits.cpp",
    "benchmarks/kernels/peaks.cpp",
    "native/thread_pool.cpp",
    "native/affinity.cpp",
)
PROGRAM = ROOT / "build" / "limits" / "limits"


def build() -> Path:
    """The program, compiled anew if its sources are newer.

    Raises:
        AbsentError: it does not compile.
    """
    sources = [ROOT / source for source in SOURCES if (ROOT / source).exists()]
    headers = [*(ROOT / "native").glob("*.hpp"), *(ROOT / "benchmarks/kernels").glob("*.hpp")]
    newest = max(file.stat().st_mtime for file in (*sources, *headers))
    if not PROGRAM.exists() or PROGRAM.stat().st_mtime < newest:
        PROGRAM.parent.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CXX", "c++")
        flags = ("-std=c++20", "-O3", "-pthread", f"-I{ROOT / 'native'}")
        run([compiler, *flags, *map(str, sources), "-o", str(PROGRAM)])
    return PROGRAM


class Limits:
    """What was measured, task by task.

    Attributes:
        absent: why nothing can be measured here, or None.
        measured: {"task", "read" in bytes per second, "int8" and "bfloat16" in operations per
            second}, all threads together.
    """

    def __init__(self, level: str, threads: int) -> None:
        self.absent: str | None = None
        self.measured: list[dict[str, str | float]] = []
        self._command = [str(PROGRAM), level, str(threads)]
        try:
            build()
        except AbsentError as error:
            self.absent = f"the limits cannot be measured here: {error}"

    def measure(self, task: str) -> None:
        """Before the task is timed."""
        if self.absent is not None:
            return
        process = subprocess.run(self._command, stdout=subprocess.PIPE, text=True, check=True)
        self.measured.append({"task": task, **json.loads(process.stdout)})
