"""A worker process, from the outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import IO, Any

from peers.process_group import ProcessGroup
from workers.protocol import Job, WorkerError

WORKERS = Path(__file__).parents[1] / "workers"


class Worker:
    """One engine in a process of its own; stopped unless it has something to do."""

    def __init__(
        self,
        script: str,
        job: Job,
        python: str | Path = sys.executable,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        command = [str(python), str(WORKERS / script), json.dumps(asdict(job))]
        self._log: IO[str] | None = None if log is None else open(log, "w")  # noqa: SIM115
        started = perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **(environment or {})},
            preexec_fn=os.setpgrp,
        )
        self._group = ProcessGroup(self._process)
        try:
            self.about: dict[str, Any] = self._answer("ready")
        except WorkerError:
            self.close()
            raise
        self.ready_seconds = perf_counter() - started
        self._group.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._group.has_ended

    def call(self, task: str, *numbers: int) -> float:
        """One run of a task: "prefill", "decode" or whatever else the worker knows.

        Raises:
            WorkerError: it could not do it, or has ended.
        """
        self._group.resume()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"task": task, "numbers": numbers}) + "\n")
            self._process.stdin.flush()
            return float(self._answer("value"))
        except BrokenPipeError:
            raise WorkerError("it has ended") from None
        finally:
            self._group.stop()

    def close(self) -> None:
        self._group.resume()
        try:
            self._process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self._group.signal(signal.SIGKILL)
            self._process.communicate()
        if self._log is not None:
            self._log.close()

    def _answer(self, key: str) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"it ended with {self._process.wait()}")
        answer = json.loads(line)
        if key not in answer:
            raise WorkerError(answer["error"])
        return answer[key]

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()
