"""`vivace serve` with flags of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.serve.process import STOP_SECONDS, url_of

SOURCES = Path(__file__).parents[2] / "src"


@dataclass(frozen=True)
class Commanded:
    """Attributes:
    log: the file of its standard error.
    """

    process: subprocess.Popen[str]
    url: str
    log: Path

    def stop(self) -> str:
        """Stop it in order; what it wrote on standard error."""
        self.process.terminate()
        assert self.process.wait(STOP_SECONDS) == 0
        return self.log.read_text()


def command(model: Path, *flags: object) -> list[str]:
    own = ["--backend", "reference", "--kv-memory", "4MiB", "--port", "0"]
    return [sys.executable, "-m", "vivace", "serve", str(model), *own, *map(str, flags)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCES)}


@contextmanager
def commanded(model: Path, log: Path, *flags: object) -> Iterator[Commanded]:
    """A server that is ready."""
    with log.open("w") as file:
        pipes = {"stdout": subprocess.PIPE, "stderr": file, "text": True}
        process = subprocess.Popen(command(model, *flags), env=environment(), **pipes)  # type: ignore[call-overload]
    with process:
        try:
            yield Commanded(process, url_of(process), log)
        finally:
            process.kill()


def sample_values(text: str) -> dict[str, float]:
    """Of a scrape: each value by its name and the values of its labels, less the two that all
    have; of histograms the sums and counts."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            own = {k: v for k, v in sample.labels.items() if k not in ("model_name", "engine")}
            if "le" not in own:
                found[" ".join([sample.name, *own.values()])] = sample.value
    return found
