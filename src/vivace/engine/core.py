"""The engine: requests in, deltas out, one step at a time. The loop to protect is `step`."""

from __future__ import annotations

import time
from collections.abc import Sequence

from vivace.core.request import Delta, Request
from vivace.core.stats import EngineInfo, EngineStats
from vivace.core.step import Step
from vivace.decoding.sampler import Sampler
from vivace.decoding.stops import OutputText
from vivace.engine.runner import Runner
from vivace.scheduler.scheduler import Scheduler


class EngineCore:
    """Single-threaded: whoever owns it calls it from one thread."""

    def __init__(
        self,
        info: EngineInfo,
        scheduler: Scheduler,
        runner: Runner,
        sampler: Sampler,
        text: OutputText,
    ) -> None:
        self.info = info
        self.scheduler = scheduler
        self.runner = runner
        self._sampler = sampler
        self._text = text
        self._steps = 0
        self._seconds = 0.0

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work

    def add(self, request: Request) -> None:
        """Queue a request.

        Raises:
            RequestError: it can never fit.
        """
        self.scheduler.add(request)
        self._text.add(request)

    def abort(self, request_id: str) -> None:
        """Forget a request and free its pages; unknown ids are ignored."""
        self.scheduler.abort(request_id)
        self._text.remove(request_id)

    def step(self) -> list[Delta]:
        """Compute one step of whoever is next; returns what it adds to each request."""
        started = time.perf_counter()
        step = self.scheduler.schedule()
        logits = self.runner.run(step)
        picked = self._sampler.pick(logits, step)
        advances = self._text.advance(step, picked)
        deltas = self.scheduler.update(step, picked, advances)
        self._forget(deltas)
        self._steps += 1
        self._seconds += time.perf_counter() - started
        return deltas
