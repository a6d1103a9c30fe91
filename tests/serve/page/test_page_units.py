"""The page's modules that need no browser, in Node's own test runner."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

OLDEST = 18  # the first with a test runner


def node_version() -> int:
    """Its major number; 0 where there is none."""
    if shutil.which("node") is None:
        return 0
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return int(said.removeprefix("v").split(".")[0])


@pytest.mark.skipif(node_version() < OLDEST, reason=f"Node {OLDEST} or newer is not installed")
def test_the_modules_do_what_their_tests_say() -> None:
    tests = sorted(map(str, Path(__file__).parent.glob("*.test.mjs")))
    assert len(tests) >= 3
    process = subprocess.run(
        ["node", "--test", *tests], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout
