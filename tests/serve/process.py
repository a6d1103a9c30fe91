"""`vivace serve` as its users run it: a process that says where it listens."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import psutil

READY_SECONDS = 60.0
STOP_SECONDS = 60.0

PROGRAM = Path(__file__).parent / "server_program.py"


@dataclass(frozen=True)
class Setting:
    """Attributes:
    config: fields of the engine's configuration.
    options: of the server's.
    variables: of the process, beside ours.
    program: that takes them.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    program: Path = PROGRAM


@dataclass(frozen=True)
class Served:
    """A server that is ready."""

    process: subprocess.Popen[str]
    url: str
    log: IO[str]

    @property
    def engine(self) -> psutil.Process:
        """The process of its engine."""
        (engine,) = engines_of(self.process.pid)
        return engine

    def logged(self) -> str:
        self.log.flush()
        self.log.seek(0)
        return self.log.read()


def engines_of(pid: int) -> list[psutil.Process]:
    """The engines' processes of a server."""
    children = psutil.Process(pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def start(
    model: Path, log: IO[str], port: int = 0, setting: Setting | None = None
) -> subprocess.Popen[str]:
    """Its standard error goes to a file: a full pipe would stop it."""
    setting = setting or Setting()
    given = json.dumps(dict(setting.config)), json.dumps(dict(setting.options))
    return subprocess.Popen(
        [sys.executable, str(setting.program), str(model), str(port), *given],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env={**os.environ, **setting.variables},
    )


def url_of(process: subprocess.Popen[str]) -> str:
    """Waits until it is ready."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], READY_SECONDS)
    assert ready, "not ready in time"
    line = process.stdout.readline()
    assert line.startswith("vivace is ready at http://"), line
    return line.split()[4]


@contextmanager
def serving_process(model: Path, setting: Setting | None = None) -> Iterator[Served]:
    """A server, which must end well when told to."""
    with TemporaryFile("w+") as log, start(model, log, setting=setting) as process:
        try:
            server = Served(process, url_of(process), log)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert process.returncode == 0, server.logged()


@contextmanager
def served(
    model: Path, setting: Setting | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its URL. It must end well when told to, and have logged no failure."""
    with serving_process(model, setting) as server:
        yield server.process, server.url
        server.process.terminate()
        server.process.wait(STOP_SECONDS)
        assert "Traceback" not in server.logged(), server.logged()


def failing(model: Path, port: int) -> tuple[int, str, str]:
    """Exit code, output and errors of a server that cannot start."""
    with TemporaryFile("w+") as log, start(model, log, port) as process:
        output, _ = process.communicate(timeout=STOP_SECONDS)
        log.seek(0)
        return process.returncode, output, log.read()
