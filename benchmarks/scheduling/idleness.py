"""What an engine does while it has nothing to do."""

from __future__ import annotations

import time

from vivace.engine.core import EngineCore

PAUSE_SECONDS = 0.002


def rest(core: EngineCore) -> None:
    """Leave an engine alone until it has written down what it computed."""
    while core.unwritten:
        core.write_down()
        time.sleep(PAUSE_SECONDS)
