"""Row 1: the two commands of the quick start, on a machine that has seen nothing of vivace."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from time import perf_counter

from claims.row import Outcome, missing

ROOT = Path(__file__).parent.parent.parent
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LIMIT_SECONDS = 40 * 60
NEEDED = ("git", "python3", "make", "c++")


def prove() -> Outcome:
    absent = [tool for tool in NEEDED if shutil.which(tool, path=PATH) is None]
    if absent:
        return missing(f"{', '.join(absent)} in {PATH}")
    with tempfile.TemporaryDirectory() as folder:
        clone, home = Path(folder) / "vivace", Path(folder) / "home"
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        demo, demo_seconds, demo_output = _make("demo", clone, home)
        shutil.rmtree(clone)  # each command must do without the other
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        test, test_seconds, test_output = _make("test", clone, home)
    closing = next(iter(re.findall(r"^.*\bpassed\b.*$", test_output, re.M)[-1:]), "no tests ran")
    serves = "vivace serve" in demo_output
    figures = {
        "demo_seconds": demo_seconds,
        "demo_output": demo_output[-3000:],
        "test_seconds": test_seconds,
        "test_output": test_output[-3000:],
        "uncommitted_changes": _uncommitted(),
    }
    measured = (
        f"make demo: exit {demo} in {demo_seconds:.0f} s; "
        f"make test: exit {test} in {test_seconds:.0f} s, {closing.strip('= ')}"
    )
    return Outcome(measured, demo == 0 and serves and test == 0, figures=figures)


def _make(target: str, clone: Path, home: Path) -> tuple[int, float, str]:
    """Exit code, seconds and output of `make TARGET` with an empty home and no environment but
    pip's: that is how a machine says where it gets packages from."""
    started = perf_counter()
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    process = subprocess.run(
        ["make", target],
        cwd=clone,
        env={"HOME": str(home), "PATH": PATH, **pip},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        timeout=LIMIT_SECONDS,
        check=False,
    )
    return process.returncode, perf_counter() - started, process.stdout


def _uncommitted() -> bool:
    """Whether the working tree differs from what was cloned."""
    status = ["git", "status", "--porcelain", "src", "native", "tests", "Makefile"]
    return bool(subprocess.run(status, cwd=ROOT, capture_output=True, check=True).stdout)
