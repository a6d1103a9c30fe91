"""Put the measured tables of proofs/ into the README, each between its two marks.

    python tools/readme_table.py [--check]

With --check nothing is written; exits with 1 if the README says something else than the files.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from marked import with_section

ROOT = Path(__file__).parent.parent
HEAD = ("| claim | bar | measured | holds |", "| --- | --- | --- | --- |")
FILES = {"speed": "cpu-speed.json", "foundation": "foundation.json"}  # by mark


def measured_section(results: dict[str, dict[str, Any]]) -> str:
    """Every row that was measured, those that do not hold too."""
    rows = [
        f"| {result['claim']} | {result['bar']} | {result['measured']} | "
        f"{'yes' if result['holds'] else 'no'} |".replace("; ", "<br>")
        for _, result in sorted(results.items(), key=lambda item: int(item[0]))
    ]
    return "\n".join(["", *HEAD, *rows, "", ""]) if rows else ""


def main() -> int:
    parser = argparse.ArgumentParser(description="The measured tables of the README.")
    parser.add_argument("--check", action="store_true", help="only compare")
    given = parser.parse_args()
    readme = ROOT / "README.md"
    before = after = readme.read_text()
    for mark, name in FILES.items():
        file = ROOT / "proofs" / name
        results = json.loads(file.read_text()) if file.exists() else {}
        after = with_section(after, mark, measured_section(results))
    if given.check:
        return int(before != after)
    readme.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
