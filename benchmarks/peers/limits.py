"""The machine's own limits, measured between the contenders' turns."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from peers.environments import ROOT, run

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


def measure(level: str, threads: int) -> dict[str, float]:
    """Bytes per second ("read") and operations per second ("int8", "bfloat16") of all threads."""
    command = [str(PROGRAM), level, str(threads)]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(process.stdout))
