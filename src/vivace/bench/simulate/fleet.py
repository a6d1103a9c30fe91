"""Engines on paper: the real scheduler and the real page books, with steps that take no time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from math import inf
from typing import Protocol

import numpy as np

from vivace.bench.plans import RouterName
from vivace.bench.simulate.profile import Profile
from vivace.bench.simulate.recorder import Recorder
from vivace.cache.blocks import KVManager
from vivace.core.errors import OverloadedError, RequestError
from vivace.core.request import Delta, Request
from vivace.core.step import Advance, Picked, ScheduledSequence, Step
from vivace.scheduler.scheduler import Scheduler
from vivace.scheduler.step_time import StepShape


class SimulatedEngine:
    """One engine; whoever owns it keeps the clock.

    Attributes:
        ends: when the step under way ends; inf while there is none.
    """

    def __init__(self, profile: Profile, rng: np.random.Generator) -> None:
        kv = KVManager(profile.groups, profile.page_tokens, profile.sharing)
        self.scheduler = Scheduler(profile.limits, kv, profile.policies, clock=lambda: self._now)
        self.ends = inf
        self._now = 0.0
        self._times = profile.times
        self._ratios = np.asarray(profile.ratios)
        self._rng = rng
        self._step = Step(())
        self._seconds = 0.0

    @property
    def load(self) -> int:
        """Requests that it has not finished."""
        return self.scheduler.num_running + self.scheduler.num_waiting

    def add(self, request: Request) -> None:
        """Queue a request that arrives now.

        Raises:
            RequestError: it can never fit.
            OverloadedError: the queue is full.
        """
        self._now = request.arrival
        self.scheduler.add(request)

    def start(self, now: float) -> None:
        """Begin the next step, if there is work and none is under way."""
        if self.ends < inf or not self.scheduler.has_work:
            return
        self._now = now
        self._step = self.scheduler.schedule()
        ratio = float(self._rng.choice(self._ratios))
        self._seconds = self._times.predict(StepShape.of(self._step)) * ratio
        self.ends = now + self._seconds

    def finish(self) -> list[Delta]:
        """The step under way has ended; what it adds."""
        step, self._now, self.ends = self._step, self.ends, inf
        self.scheduler.step_time.observe(StepShape.of(step), self._seconds)
        picked = [Picked(one.request.request_id, token_id=0) for one in step.sampling]
        return self.scheduler.update(step, picked, map(_advance, step.sampling))


def _advance(sequence: ScheduledSequence) -> Advance:
    """Answers end at their length, and only there."""
    drawn = len(sequence.token_ids) - sequence.num_prompt_tokens + 1
    ends = drawn == sequence.request.params.max_tokens
    return Advance(sequence.request.request_id, finish_reason="length" if ends else None)


class Router(Protocol):
    def choose(self, engines: Sequence[SimulatedEngine]) -> SimulatedEngine:
        """The engine that gets the next request."""
        ...


class RoundRobin:
    """One engine after another."""

    def __init__(self) -> None:
        self._turns = count()

    def choose(self, engines: Sequence[SimulatedEngine]) -> SimulatedEngine:
        return engines[next(self._turns) % len(engines)]


class LeastLoaded:
    """The engine with the fewest unfinished requests; the first of several."""

    def choose(self, engines: Sequence[SimulatedEngine]) -> SimulatedEngine:
        return min(engines, key=lambda engine: engine.load)


ROUTERS: dict[RouterName, Callable[[], Router]] = {
    "round-robin": RoundRobin,
    "least-loaded": LeastLoaded,
}


def run_fleet(
    engines: Sequence[SimulatedEngine], router: Router, requests: Sequence[Request]
) -> Recorder:
    """Serve requests, sorted by arrival, until all are done. Time begins at 0.

    The clock jumps from event to event: an arrival, or the end of a step. A request that arrives
    during a step is considered for the next one.
    """
    recorder = Recorder(requests)
    arrivals = deque(requests)
    while True:
        now = min(engine.ends for engine in engines)
        if arrivals:
            now = min(now, arrivals[0].arrival)
        if now == inf:
            return recorder
        for engine in engines:
            if engine.ends <= now:
                recorder.take(engine.finish(), now)
        while arrivals and arrivals[0].arrival <= now:
            _send(arrivals.popleft(), router.choose(engines), recorder)
        for engine in engines:
            engine.start(now)


def _send(request: Request, engine: SimulatedEngine, recorder: Recorder) -> None:
    try:
        engine.add(request)
    except (OverloadedError, RequestError) as error:
        recorder.refuse(request, error)
