"""A scheduler on a clock that follows a rule of step time: how long everybody waits."""

from __future__ import annotations

from collections.abc import Callable

from vivace.cache.blocks import KVGroup, KVManager
from vivace.core.request import Request
from vivace.core.sampling import SamplingParams
from vivace.core.step import Advance, Picked, ScheduledSequence
from vivace.scheduler.config import SchedulerConfig
from vivace.scheduler.scheduler import Scheduler
from vivace.scheduler.step_time import StepShape


class TimedEngine:
    """Attributes:
    now: seconds.
    steps: the shape of each step and what it took.
    ttfts: by request, from when it was added to its first token.
    """

    def __init__(self, config: SchedulerConfig, seconds_of: Callable[[StepShape], float]) -> None:
        self.now = 0.0
        self.steps: list[tuple[StepShape, float]] = []
        self.ttfts: dict[str, float] = {}
        self._seconds_of = seconds_of
        kv = KVManager([KVGroup(4000)], 16, sharing=False)
        self._scheduler = Scheduler(config, kv, clock=lambda: self.now)

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work

    def add(self, name: str, prompt: int, answer: int, priority: int = 0) -> None:
        """A request of so many tokens in and out arrives."""
        params = SamplingParams(max_tokens=answer)
        self._scheduler.add(Request(name, (1,) * prompt, params, self.now, priority))

    def step(self) -> None:
        step = self._scheduler.schedule()
        shape = StepShape.of(step)
        seconds = self._seconds_of(shape)
        self.now += seconds
        self.steps.append((shape, seconds))
        self._scheduler.step_time.observe(shape, seconds)
        for one in step.sampling:
            self.ttfts.setdefault(one.request.request_id, self.now - one.request.arrival)
        picked = [Picked(one.request.request_id, 0) for one in step.sampling]
        self._scheduler.update(step, picked, map(_advance, step.sampling))


def _advance(one: ScheduledSequence) -> Advance:
    drawn = len(one.token_ids) - one.num_prompt_tokens + 1
    ends = drawn == one.request.params.max_tokens
    return Advance(one.request.request_id, finish_reason="length" if ends else None)
