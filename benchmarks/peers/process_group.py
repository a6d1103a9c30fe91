"""A process and those that it starts, which stand still together."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import sleep
from typing import Any

STILL = frozenset("TtZX")  # of the states in /proc: stopped, or ended
LOOK_SECONDS = 0.005


class ProcessGroup:
    """Its first process must have been started with `preexec_fn=os.setpgrp`: a group that outlives
    us is then continued and ended by the kernel."""

    def __init__(self, first: subprocess.Popen[Any]) -> None:
        self._first = first

    @property
    def has_ended(self) -> bool:
        """Whether its first process has."""
        return self._first.poll() is not None

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def stop(self) -> None:
        """Returns when all of it stands still, so that the next turn begins on a quiet machine."""
        self.signal(signal.SIGSTOP)
        while not self.has_ended and not STILL.issuperset(self._states()):
            sleep(LOOK_SECONDS)

    def end(self, seconds: float) -> None:
        """Ask it to, and kill what is left after so long."""
        self.signal(signal.SIGTERM)
        self.resume()
        try:
            self._first.wait(seconds)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self._first.wait()

    def signal(self, number: signal.Signals) -> None:
        if not self.has_ended:
            os.killpg(self._first.pid, number)

    def _states(self) -> Iterator[str]:
        """As in /proc/PID/stat: "PID (NAME) STATE PARENT GROUP ..."."""
        for file in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, group = file.read_text().rpartition(")")[2].split()[:3]
            except OSError:  # it has ended since
                continue
            if int(group) == self._first.pid:
                yield state
