"""Measure the claims about speed on a CPU and keep the results in proofs/cpu-speed.json.

    python tools/prove_cpu_speed.py [--row N] [--isa avx512] [--show]

With --isa avx512 nobody uses AMX, and the results are kept in proofs/cpu-speed-avx512.json. Exits
with 1 if a row that was run does not hold.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from claims.cpu_rows import ROWS
from claims.row import Row
from claims.runner import Proof, add_arguments, run_rows

PROOFS = Path(__file__).parent.parent / "proofs"
FILES = {"native": PROOFS / "cpu-speed.json", "avx512": PROOFS / "cpu-speed-avx512.json"}


def rows(isa: str) -> dict[int, Row]:
    return {number: replace(row, prove=partial(row.prove, isa)) for number, row in ROWS.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the claims about speed on a CPU.")
    add_arguments(parser, ROWS)
    parser.add_argument("--isa", choices=FILES, default="native")
    given = parser.parse_args()
    return run_rows(Proof(rows(given.isa), FILES[given.isa]), given.row, given.show)


if __name__ == "__main__":
    sys.exit(main())
