"""Row 1: the two commands of the quick start, on a machine that has seen nothing of vivace."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from claims.row import Outcome, missing

ROOT = Path(__file__).parent.parent.parent
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LIMIT_SECONDS = 40 * 60
NEEDED = ("git", "python3", "make", "c++")


@dataclass(frozen=True)
class Made:
    """How a make command ended; notices, which stand in `errors`, are no part of its output."""

    code: int
    seconds: float
    output: str
    errors: str

    def figures(self, name: str) -> dict[str, Any]:
        return {
            f"{name}_seconds": self.seconds,
            f"{name}_output": self.output[-3000:],
            f"{name}_errors": self.errors[-3000:],
        }


def prove() -> Outcome:
    absent = [tool for tool in NEEDED if shutil.which(tool, path=PATH) is None]
    if absent:
        return missing(f"{', '.join(absent)} in {PATH}")
    with tempfile.TemporaryDirectory() as folder:
        clone, home = Path(folder) / "vivace", Path(folder) / "home"
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        demo = _make("demo", clone, home)
        shutil.rmtree(clone)  # each command must do without the other
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        test = _make("test", clone, home)
    closing = next(iter(re.findall(r"^.*\bpassed\b.*$", test.output, re.M)[-1:]), "no tests ran")
    figures = demo.figures("demo") | test.figures("test") | {"uncommitted_changes": _uncommitted()}
    completed = completes(demo.output)
    measured = (
        f"make demo: exit {demo.code} in {demo.seconds:.0f} s, "
        f"{'a' if completed else 'no'} completion and serve command; "
        f"make test: exit {test.code} in {test.seconds:.0f} s, {closing.strip('= ')}"
    )
    return Outcome(measured, demo.code == 0 and completed and test.code == 0, figures=figures)


def demo_prompt() -> str:
    """What the Makefile has the bundled model complete."""
    text = (ROOT / "Makefile").read_text()
    return text.partition("define DEMO_PROMPT\n")[2].partition("\nendef")[0]


def completes(demo_output: str) -> bool:
    """Whether text stands between the demo's prompt and the line that tells how to serve."""
    _, prompt, rest = demo_output.partition(demo_prompt())
    completion, serve, _ = rest.partition("To serve it over HTTP:")
    return bool(prompt and serve and completion.strip())


def _make(target: str, clone: Path, home: Path) -> Made:
    """`make TARGET` with an empty home and no environment but
    pip's: that is how a machine says where it gets packages from."""
    started = perf_counter()
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    process = subprocess.run(
        ["make", target],
        cwd=clone,
        env={"HOME": str(home), "PATH": PATH, **pip},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        timeout=LIMIT_SECONDS,
        check=False,
    )
    seconds = perf_counter() - started
    return Made(process.returncode, seconds, process.stdout, process.stderr)


def _uncommitted() -> bool:
    """Whether the working tree differs from what was cloned."""
    status = ["git", "status", "--porcelain", "src", "native", "tests", "Makefile"]
    return bool(subprocess.run(status, cwd=ROOT, capture_output=True, check=True).stdout)
