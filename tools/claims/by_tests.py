"""Rows that are tests of the project."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from claims.row import Outcome, missing

ROOT = Path(__file__).parent.parent.parent


def tests_pass(*targets: str) -> Outcome:
    return tests_pass_with({}, *targets)


def tests_pass_with(variables: Mapping[str, str], *targets: str) -> Outcome:
    """Whether every one of these tests passes; a skipped one counts as absent.

    Args:
        variables: of the tests' process, beside ours.
        targets: paths or node ids, from the repository's root.
    """
    gone = [target for target in targets if not (ROOT / target.split("::")[0]).exists()]
    if gone:
        return missing(", ".join(gone))
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", *targets, f"--junitxml={report}"]
        process = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if not report.exists():
            return Outcome("pytest could not run", holds=False, figures={"output": process.stdout})
        counts, skipped = _counts(report)
    figures = {"tests": dict(counts), "targets": list(targets)}
    measured = ", ".join(f"{count} {state}" for state, count in counts.items()) or "no tests"
    if counts["failed"]:
        figures["output"] = process.stdout[-4000:]
    holds = process.returncode == 0 and counts["passed"] > 0 and not counts["skipped"]
    return Outcome(measured, holds, "; ".join(skipped) or None, figures)


def _counts(report: Path) -> tuple[Counter[str], list[str]]:
    """How many tests ended how, and why some were skipped."""
    counts: Counter[str] = Counter()
    reasons = []
    for case in ElementTree.parse(report).iter("testcase"):
        skip = case.find("skipped")
        if skip is not None:
            counts["skipped"] += 1
            reasons.append(skip.get("message", "skipped"))
        elif case.find("failure") is not None or case.find("error") is not None:
            counts["failed"] += 1
        else:
            counts["passed"] += 1
    return counts, sorted(set(reasons))
