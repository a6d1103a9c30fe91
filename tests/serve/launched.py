"""`vivace serve` from its command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from tests.serve.process import STOP_SECONDS, url_of

SOURCES = Path(__file__).parents[2] / "src"
SMALL = ("--backend", "reference", "--kv-memory", "4MiB", "--port", "0", "--admin-key", "root")


@contextmanager
def launched(*flags: object) -> Iterator[str]:
    """The URL of a server that is ready. It must end well when told to, and log no failure."""
    command = [sys.executable, "-m", "vivace", "serve", *map(str, flags), *SMALL]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    with TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
        with process:
            try:
                yield url_of(process)
            finally:
                process.terminate()
                try:
                    process.wait(STOP_SECONDS)
                finally:
                    process.kill()
        log.seek(0)
        errors = log.read()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors, errors
