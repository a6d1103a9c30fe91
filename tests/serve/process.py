"""`vivace serve` as its users run it: a process that says where it listens."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

READY_SECONDS = 60.0
STOP_SECONDS = 60.0

PROGRAM = """
import sys
from vivace.core.config import EngineConfig
from vivace.core.errors import VivaceError
from vivace.serve.server import run

if __name__ == "__main__":
    config = EngineConfig(model=sys.argv[1], backend="reference", kv_memory_bytes=4 << 20)
    try:
        run(config, port=int(sys.argv[2]))
    except VivaceError as error:
        sys.exit(str(error))
"""


def start(model: Path, log: IO[str], port: int = 0) -> subprocess.Popen[str]:
    """Its standard error goes to a file: a full pipe would stop it."""
    command = [sys.executable, "-c", PROGRAM, str(model), str(port)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)


def url_of(process: subprocess.Popen[str]) -> str:
    """Waits until it is ready."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], READY_SECONDS)
    assert ready, "not ready in time"
    line = process.stdout.readline()
    assert line.startswith("vivace is ready at http://"), line
    return line.split()[4]


@contextmanager
def served(model: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its URL. It must end well when told to, and have logged no failure."""
    with TemporaryFile("w+") as log, start(model, log) as process:
        try:
            yield process, url_of(process)
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        errors = _read(log)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors, errors


def failing(model: Path, port: int) -> tuple[int, str, str]:
    """Exit code, output and errors of a server that cannot start."""
    with TemporaryFile("w+") as log, start(model, log, port) as process:
        output, _ = process.communicate(timeout=STOP_SECONDS)
        return process.returncode, output, _read(log)


def _read(log: IO[str]) -> str:
    log.seek(0)
    return log.read()
