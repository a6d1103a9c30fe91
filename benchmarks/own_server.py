"""A server of ours for a program that watches it from outside."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile

import psutil
from peers.servers import END_SECONDS, await_answer, free_port

LOG_LINES = 20  # shown of a server that nothing good came of


@dataclass(frozen=True)
class OwnServer:
    """Attributes:
    server, engine: its processes.
    """

    url: str
    server: psutil.Process
    engine: psutil.Process

    def resident_bytes(self) -> dict[str, int]:
        return {name: one.memory_info().rss for name, one in self._processes()}

    def open_files(self) -> dict[str, int]:
        """Sockets too."""
        return {name: one.num_fds() for name, one in self._processes()}

    def metric(self, name: str) -> float:
        (value,) = self.samples(name)
        return value

    def samples(self, name: str) -> list[float]:
        """Of a metric with whatever labels."""
        lines = self.get("/metrics").splitlines()
        found = [line for line in lines if line.startswith((name + "{", name + " "))]
        return [float(line.rsplit(" ", 1)[1]) for line in found]

    def is_idle(self) -> bool:
        """Whether no request runs or waits, and no page is held but by pins."""
        engine = json.loads(self.get("/server_info"))["engine"]
        held = engine["pages_used"] - engine["pages_pinned"]
        return (engine["running"], engine["waiting"], held) == (0, 0, 0)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return str(answer.read().decode())

    def _processes(self) -> list[tuple[str, psutil.Process]]:
        return [("server", self.server), ("engine", self.engine)]


@contextmanager
def own_server(*arguments: str) -> Iterator[OwnServer]:
    """`vivace serve` with these arguments; it must end well when told to."""
    port = free_port()
    command = [sys.executable, "-m", "vivace", "serve", *arguments, "--port", str(port)]
    with (
        TemporaryFile() as log,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            await_answer(url, process)
            yield OwnServer(url, psutil.Process(process.pid), _engine(process.pid))
            process.terminate()
            if process.wait(END_SECONDS) != 0:
                raise RuntimeError(f"The server ended with {process.returncode}.")
        except BaseException:
            log.seek(0)
            sys.stderr.writelines(line.decode() for line in log.readlines()[-LOG_LINES:])
            raise
        finally:
            process.kill()


def _engine(pid: int) -> psutil.Process:
    children = psutil.Process(pid).children(recursive=True)
    (engine,) = (one for one in children if "spawn_main" in " ".join(one.cmdline()))
    return engine
