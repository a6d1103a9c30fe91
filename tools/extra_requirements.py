"""Print what one of the package's extras asks for, one requirement a line.

    python tools/extra_requirements.py dev

For the Makefile: `pip install .[dev]` would build the native code again.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import requires

EXTRA = re.compile(r"(?P<requirement>.+?)\s*;\s*extra == [\"'](?P<extra>[\w-]+)[\"']")


def extra_requirements(lines: list[str], extra: str) -> list[str]:
    matches = (EXTRA.fullmatch(line) for line in lines)
    return [match["requirement"] for match in matches if match and match["extra"] == extra]


if __name__ == "__main__":
    print(*extra_requirements(requires("vivace") or [], sys.argv[1]), sep="\n")
