"""What every benchmark of scheduling can be told."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

Sizes = TypeVar("Sizes")


@dataclass(frozen=True)
class Command(Generic[Sizes]):
    """A benchmark: it prints one JSON object.

    Attributes:
        about: one line for --help.
        takes: how long it runs on two cores, in words.
        full: what is measured.
        short: the same in small, on a tiny model: it shows only that the benchmark runs.
        measure: from sizes and a number of rounds to the figures.
        rounds: unless told otherwise.
    """

    about: str
    takes: str
    full: Sizes
    short: Sizes
    measure: Callable[[Sizes, int], dict[str, Any]]
    rounds: int = 5

    def main(self) -> None:
        parser = argparse.ArgumentParser(description=self.about)
        parser.add_argument("--rounds", type=int, default=self.rounds)
        parser.add_argument("--short", action="store_true", help="a tiny model, to see it run")
        given = parser.parse_args()
        sizes = self.short if given.short else self.full
        if not given.short:
            report(f"This takes {self.takes} on two cores.")
        result = self.measure(sizes, given.rounds)
        print(json.dumps({"rounds": given.rounds, "sizes": asdict(sizes), **result}))


def report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
