"""The engine: requests in, deltas out, one step at a time. The loop to protect is `_advance`."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vivace.cache.blocks import KVManager
from vivace.core.errors import VivaceError
from vivace.core.request import Delta, Request
from vivace.core.stats import EngineInfo, EngineStats
from vivace.core.step import ScheduledSequence, Step
from vivace.decoding.sampler import InvalidLogitsError, Sampler
from vivace.decoding.stops import OutputText
from vivace.engine.requests import check_prompt
from vivace.engine.runner import LOGIT_ROWS, Runner
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
        self._runner = runner
        self._sampler = sampler
        self._text = text
        self._steps = 0
        self._step_seconds = 0.0

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work

    def add(self, request: Request) -> None:
        """Queue a request.

        Raises:
            RequestError: it can never fit; the engine is unharmed.
        """
        self.scheduler.add(request)
        self._text.add(request)

    def abort(self, request_id: str) -> None:
        """Forget a request and free its pages; unknown ids are ignored."""
        self.scheduler.abort(request_id)
        self._text.remove(request_id)

    def step(self) -> list[Delta]:
        """Compute one step of whoever is next; returns what it adds to each request.

        A request that fails gets its error as its last delta; the others go on.
        """
        started = time.perf_counter()
        step = self.scheduler.schedule()
        try:
            deltas = self._advance(step)
        except InvalidLogitsError as error:
            deltas = self._fail(error.request_ids, error)
        except VivaceError as error:
            deltas = self._fail([one.request.request_id for one in step.sequences], error)
        self._steps += 1
        self._step_seconds += time.perf_counter() - started
        return deltas

    def _advance(self, step: Step) -> list[Delta]:
        logits = self._runner.run(step)
        picked = self._sampler.pick(logits, step)
        advances = self._text.advance(step, picked)
        deltas = self.scheduler.update(step, picked, advances)
        for delta in deltas:
            if delta.finish_reason is not None:
                self._text.remove(delta.request_id)
        return deltas

    def _fail(self, request_ids: Sequence[str], error: VivaceError) -> list[Delta]:
        """End these requests; what the step computed of others is computed again."""
        for request_id in request_ids:
            self.abort(request_id)
        return [Delta.failed(request_id, str(error)) for request_id in request_ids]

    def stats(self) -> EngineStats:
        raise NotImplementedError

