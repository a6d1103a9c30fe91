"""Drills take minutes: `make prove-serving ROW=4` runs them, and who sets VIVACE_DRILLS=1."""

from __future__ import annotations

import os

collect_ignore = (
    [] if "VIVACE_DRILLS" in os.environ else ["test_drill_clients.py", "test_drill_engine.py"]
)
