"""How long pages are of use."""

from __future__ import annotations

import time
from collections.abc import Callable

from vivace.core.stats import PAGE_SECONDS, PageAges, Tally


class AgeTally:
    """The ages of the pages of all groups. (The three histograms are those of vLLM, which looks at
    a sample of its blocks.)

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._lifetime = Tally(PAGE_SECONDS)
        self._idle = Tally(PAGE_SECONDS)
        self._reuse_gap = Tally(PAGE_SECONDS)

    def stats(self) -> PageAges:
        parts = (self._lifetime, self._idle, self._reuse_gap)
        return PageAges(*(tally.histogram() for tally in parts))

    def reused(self, seconds: float) -> None:
        """A page was found again, so long after its last use."""
        self._reuse_gap.add(seconds)

    def evicted(self, lifetime: float, idle: float) -> None:
        self._lifetime.add(lifetime)
        self._idle.add(idle)
