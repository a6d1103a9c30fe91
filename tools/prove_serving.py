"""Measure the claims about serving: proofs/serving.json.

    python tools/prove_serving.py [--row N] [--show]

Exits with 1 if a row that was run does not hold.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from claims.runner import Proof, add_arguments, run_rows
from claims.serving_rows import ROWS

RESULTS = Path(__file__).parent.parent / "proofs" / "serving.json"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure serving.")
    add_arguments(parser, ROWS)
    given = parser.parse_args()
    return run_rows(Proof(ROWS, RESULTS), given.row, given.show)


if __name__ == "__main__":
    sys.exit(main())
