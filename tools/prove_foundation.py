"""Measure the foundation's claims and keep the results in proofs/foundation.json.

    python tools/prove_foundation.py [--row N] [--show]

Rows are merged into the file with a hash of the sources they were made on; a row made on other
sources is shown as stale. Exits with 1 if a row that was run does not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import Any

from claims import ROWS
from claims.row import Outcome, Row
from claims.sources import sources_hash

RESULTS = Path(__file__).parent.parent / "proofs" / "foundation.json"

Results = dict[str, dict[str, Any]]


def run(number: int) -> dict[str, Any]:
    """Prove one row now."""
    row = ROWS[number]
    print(f"Row {number}: {row.claim} (takes {row.takes}) ...", file=sys.stderr, flush=True)
    made_on = sources_hash()
    started = perf_counter()
    outcome = prove(row)
    return {
        "claim": row.claim,
        "bar": row.bar,
        **asdict(outcome),
        "seconds": round(perf_counter() - started, 1),
        "sources": made_on,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def prove(row: Row) -> Outcome:
    """A tool that fails must not cost the other rows."""
    try:
        return row.prove()
    except Exception as error:
        return Outcome(f"could not run: {type(error).__name__}: {error}", holds=False)


def state(result: dict[str, Any] | None, now: str) -> str:
    """What the table says of a row."""
    if result is None:
        return "not run"
    if result["sources"] != now:
        return "stale"
    if result["holds"]:
        return "holds"
    return "absent" if result["absent"] else "FAILS"


def table(results: Results) -> str:
    now = sources_hash()
    lines = []
    for number, row in ROWS.items():
        result = results.get(str(number))
        lines.append(f"{number}. [{state(result, now)}] {row.claim}")
        lines.append(f"   bar:      {row.bar}")
        lines.append(f"   measured: {result['measured'] if result else '-'}")
        if result and result["absent"]:
            lines.append(f"   absent:   {result['absent']}")
    return "\n".join(lines)


def read() -> Results:
    return dict(json.loads(RESULTS.read_text())) if RESULTS.exists() else {}


def write(results: Results) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the foundation's claims.")
    parser.add_argument("--row", type=int, choices=ROWS, help="this one only")
    parser.add_argument("--show", action="store_true", help="only print what is in the file")
    given = parser.parse_args()
    numbers = [] if given.show else [given.row] if given.row else list(ROWS)
    results = read()
    for number in numbers:
        results[str(number)] = run(number)
        write(results)  # after each: a later row may be interrupted
    print(table(results))
    return int(not all(results[str(number)]["holds"] for number in numbers))


if __name__ == "__main__":
    sys.exit(main())
