"""Workers that hold one model each and time one task at a time, when told to.

A worker is a process that writes {"ready": ...} when its model is loaded and warm, then answers
each line {"task": NAME, "tokens": N} with {"rate": tokens per second}.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

Task = Callable[[int], float]

FOLDER = Path(__file__).parent


class Worker:
    """A worker process, from the outside. Its standard error is ours."""

    def __init__(self, script: str, model: Path, threads: int) -> None:
        command = [sys.executable, str(FOLDER / script), str(model), str(threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.about: dict[str, Any] = self._answer()["ready"]

    def rate(self, task: str, tokens: int) -> float:
        """Tokens per second of one run of the task."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"task": task, "tokens": tokens}) + "\n")
        self._process.stdin.flush()
        return float(self._answer()["rate"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}.")
        return dict(json.loads(line))

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=60)


def answer_tasks(about: dict[str, Any], tasks: dict[str, Task]) -> None:
    """The inside of a worker: answer on standard output until standard input ends."""
    print(json.dumps({"ready": about}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps({"rate": tasks[order["task"]](order["tokens"])}), flush=True)
