"""The comparisons with peers run, on a model too small to mean anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


def run(script: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert process.returncode == 0, process.stderr
    return dict(json.loads(process.stdout))


@pytest.mark.oracle
def test_beside_transformers() -> None:
    result = run("transformers_cpu.py", "--models", "tiny", "--rounds", "1", "--threads", "1")
    tiny = result["models"]["tiny"]
    for task in ("prefill", "decode"):
        ours, theirs = (tiny[task]["tokens_per_second"][n] for n in ("vivace", "transformers"))
        assert tiny[task]["ratio"] == pytest.approx(ours / theirs)
        assert len(tiny[task]["ratio_by_round"]) == 1


def test_startup() -> None:
    result = run("startup.py", "--rounds", "1")
    assert 0 < result["help_seconds"] < result["first_token_seconds"]
