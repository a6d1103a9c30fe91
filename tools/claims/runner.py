"""Running rows and keeping their results: what every proof tool does.

Rows are merged into a file with a hash of the sources they were made on; a row made on other
sources is shown as stale.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import Any

from claims.row import Row, attempt
from claims.sources import sources_hash

Results = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Proof:
    """Attributes:
    rows: by number, in the order of the issue.
    file: where results are kept.
    """

    rows: Mapping[int, Row]
    file: Path

    def read(self) -> Results:
        return dict(json.loads(self.file.read_text())) if self.file.exists() else {}

    def write(self, results: Results) -> None:
        self.file.parent.mkdir(exist_ok=True)
        self.file.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")

    def run(self, number: int) -> dict[str, Any]:
        """Prove one row now."""
        row = self.rows[number]
        print(f"Row {number}: {row.claim} (takes {row.takes}) ...", file=sys.stderr, flush=True)
        made_on = sources_hash()
        started = perf_counter()
        outcome = attempt(row.prove)
        return {
            "claim": row.claim,
            "bar": row.bar,
            **asdict(outcome),
            "seconds": round(perf_counter() - started, 1),
            "sources": made_on,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }

    def table(self, results: Results) -> str:
        now = sources_hash()
        lines = []
        for number, row in self.rows.items():
            result = results.get(str(number))
            lines.append(f"{number}. [{state(result, now)}] {row.claim}")
            lines.append(f"   bar:      {row.bar}")
            lines.append(f"   measured: {result['measured'] if result else '-'}")
            if result and result["absent"]:
                lines.append(f"   absent:   {result['absent']}")
        return "\n".join(lines)


def state(result: dict[str, Any] | None, now: str) -> str:
    """What the table says of a row."""
    if result is None:
        return "not run"
    if result["sources"] != now:
        return "stale"
    if result["absent"]:
        return "absent"
    return "holds" if result["holds"] else "FAILS"


def add_arguments(parser: argparse.ArgumentParser, rows: Mapping[int, Row]) -> None:
    parser.add_argument("--row", type=int, choices=rows, help="this one only")
    parser.add_argument("--show", action="store_true", help="only print what is in the file")


def run_rows(proof: Proof, row: int | None, show: bool) -> int:
    """Run what was asked for and print the table; 1 if a row that was run does not hold."""
    numbers = [] if show else list(proof.rows) if row is None else [row]
    results = proof.read()
    for number in numbers:
        made = proof.run(number)
        results = {**proof.read(), str(number): made}  # another row may have ended meanwhile
        proof.write(results)  # after each: a later row may be interrupted
    print(proof.table(results))
    return int(not all(results[str(number)]["holds"] for number in numbers))
