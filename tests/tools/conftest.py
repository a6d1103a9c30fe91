"""The programs in `tools/` and `benchmarks/` are plain scripts: their folders go on the path."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
sys.path.append(str(ROOT / "benchmarks"))
