"""Running the programs under benchmarks/ as a user does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def run(script: str, *arguments: str) -> dict[str, Any]:
    """The JSON object that the program prints; an AssertionError with its words if it fails."""
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert process.returncode == 0, process.stderr
    return dict(json.loads(process.stdout))
