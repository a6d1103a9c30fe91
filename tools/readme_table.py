"""Put the measured tables of proofs/ into their pages, each between its two marks.

    python tools/readme_table.py [--check]

With --check nothing is written; exits with 1 if a page says something else than its file.
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
TABLES = {  # by mark: the page and its proof
    "speed": ("README.md", "cpu-speed.json"),
    "foundation": ("README.md", "foundation.json"),
    "scheduling": ("docs/scheduling.md", "scheduler-cache.json"),
    "serving": ("docs/deployment.md", "serving.json"),
}


def measured_section(results: dict[str, dict[str, Any]]) -> str:
    """Every row that was measured, those that do not hold too."""
    rows = [
        f"| {result['claim']} | {result['bar']} | {result['measured']} | "
        f"{'yes' if result['holds'] else 'no'} |".replace("; ", "<br>")
        for _, result in sorted(results.items(), key=lambda item: int(item[0]))
    ]
    return "\n".join(["", *HEAD, *rows, "", ""]) if rows else ""


def main() -> int:
    parser = argparse.ArgumentParser(description="The measured tables of the pages.")
    parser.add_argument("--check", action="store_true", help="only compare")
    given = parser.parse_args()
    stale = False
    for mark, (page, proof) in TABLES.items():
        path, file = ROOT / page, ROOT / "proofs" / proof
        results = json.loads(file.read_text()) if file.exists() else {}
        before = path.read_text()
        after = with_section(before, mark, measured_section(results))
        stale = stale or before != after
        if not given.check:
            path.write_text(after)
    return int(given.check and stale)


if __name__ == "__main__":
    sys.exit(main())
