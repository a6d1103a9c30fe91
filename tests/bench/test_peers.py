"""The comparison with peers, run on a model too small to mean anything, with whoever needs no
installation; and that refusing AMX refuses it."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
TWICE = {"prefill-128": 2, "decode-1x64": 2, "decode-4x64": 2}
ASKS_FOR_AMX = "import ctypes; print(ctypes.CDLL(None).syscall(158, 0x1023, 18))"


def run(script: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert process.returncode == 0, process.stderr
    return dict(json.loads(process.stdout))


@pytest.mark.oracle
def test_every_task_is_timed_in_every_round() -> None:
    result = run(
        "peers_cpu.py",
        *("--preset", "tiny", "--rounds", "2", "--threads", "1"),
        *("--contenders", "vivace bfloat16", "Transformers bfloat16"),
        *("--rows", *TWICE, "start"),
    )
    assert len(result["contenders"]) == 2
    for one in result["contenders"].values():
        assert (one["absent"], one["absent_tasks"]) == (None, {})
        assert {task: len(rates) for task, rates in one["rates"].items()} == TWICE
        assert len(one["starts"]) == 2
        assert all(start["peak_bytes"] > 1e7 for start in one["starts"])
    assert {limit["task"] for limit in result["limits"]} == set(TWICE)
    assert all(limit["read"] > 1e9 for limit in result["limits"])


@pytest.mark.oracle
def test_mixed_lengths_beside_static_batches() -> None:
    arguments = ("--preset", "tiny", "--requests", "4", "--rounds", "1", "--threads", "1")
    result = run("mixed_trace.py", *arguments, "--quantize", "bfloat16")
    rates = result["output_tokens_per_second"]
    assert result["ratio"] == pytest.approx(rates["vivace"][0] / rates["transformers"][0])


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="AMX is of x86 Linux"
)
def test_amx_is_refused() -> None:
    no_amx = str(BENCHMARKS / "workers" / "no_amx.py")
    command = [sys.executable, no_amx, sys.executable, "-c", ASKS_FOR_AMX]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "-1"
