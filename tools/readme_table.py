"""Put the measured table of proofs/foundation.json into the README, between its two marks.

    python tools/readme_table.py [--check]

With --check nothing is written; exits with 1 if the README says something else than the file.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from marked import with_section

ROOT = Path(__file__).parent.parent
MARK = "measured"


def measured_section(results: dict[str, dict[str, Any]]) -> str:
    """Every row that was measured, those that do not hold too."""
    rows = [
        f"| {result['claim']} | {result['bar']} | {result['measured']} | "
        f"{'yes' if result['holds'] else 'no'} |"
        for _, result in sorted(results.items(), key=lambda item: int(item[0]))
    ]
    if not rows:
        return ""
    head = ["## Measured", "", "| claim | bar | measured | holds |", "| --- | --- | --- | --- |"]
    return "\n".join(["", *head, *rows, "", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description="The measured table of the README.")
    parser.add_argument("--check", action="store_true", help="only compare")
    given = parser.parse_args()
    file = ROOT / "proofs" / "foundation.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    readme = ROOT / "README.md"
    before = readme.read_text()
    after = with_section(before, MARK, measured_section(results))
    if given.check:
        return int(before != after)
    readme.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
