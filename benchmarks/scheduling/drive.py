"""Drives an engine in this process through requests that come in time, with a stopwatch.

All times are seconds since the run began, taken at the engine: HTTP and clients are not in them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from vivace.bench.simulate.trace import begun
from vivace.core.errors import VivaceError
from vivace.core.request import Delta, Request
from vivace.engine.core import EngineCore


@dataclass
class Timeline:
    """What became of one request.

    Attributes:
        token_ids: its answer so far.
        times: when each of them came.
    """

    request: Request
    token_ids: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def take(self, delta: Delta, now: float) -> None:
        self.token_ids.extend(delta.token_ids)
        self.times.extend([now] * len(delta.token_ids))

    @property
    def num_tokens(self) -> int:
        """Of prompt and answer."""
        return len(self.request.prompt_token_ids) + len(self.token_ids)

    @property
    def ttft(self) -> float:
        return self.times[0] - self.request.arrival

    @property
    def latency(self) -> float:
        return self.times[-1] - self.request.arrival

    @property
    def gaps(self) -> list[float]:
        """Between its tokens."""
        return list(np.diff(self.times).tolist())


@dataclass(frozen=True)
class Background:
    """Work that never ends: always `count` requests, each followed by the next of `requests`."""

    count: int
    requests: Iterator[Request]


@dataclass(frozen=True)
class Run:
    """Attributes:
    ended: every request but those of the background.
    steps: what each step took.
    seconds: until the last of `ended` had.
    """

    ended: tuple[Timeline, ...]
    steps: tuple[float, ...]
    seconds: float

    def of(self, requests: Sequence[Request]) -> list[Timeline]:
        """The timelines of these requests, in their order."""
        by_id = {timeline.request.request_id: timeline for timeline in self.ended}
        return [by_id[request.request_id] for request in requests]

    @property
    def tokens_per_second(self) -> float:
        """Of prompts and answers."""
        return sum(timeline.num_tokens for timeline in self.ended) / self.seconds


Follow: TypeAlias = Callable[[Timeline], Request | None]


def nobody(timeline: Timeline) -> Request | None:
    """No request follows."""
    return None


def drive(
    core: EngineCore,
    requests: Sequence[Request],
    follow: Follow = nobody,
    background: Background | None = None,
) -> Run:
    """Run requests to their ends; the background is then given up.

    Args:
        core: an idle engine.
        requests: each with its arrival.
        follow: what is asked as soon as a request has ended; its arrival is set.

    Raises:
        VivaceError: the engine could not finish one of them.
    """
    return _Drive(core, follow, background or Background(0, iter(()))).run(requests)


class _Drive:
    def __init__(self, core: EngineCore, follow: Follow, background: Background) -> None:
        self._core = core
        self._follow = follow
        self._source = background
        self._alive: dict[str, Timeline] = {}
        self._behind: dict[str, Timeline] = {}
        self._ended: list[Timeline] = []
        self._steps: list[float] = []
        self._began = 0.0

    def run(self, requests: Sequence[Request]) -> Run:
        waiting = deque(sorted(requests, key=lambda one: one.arrival))
        self._began = time.monotonic()
        while waiting or self._alive:
            self._take_in(waiting)
            if self._core.has_work:
                self._step()
            elif waiting:
                time.sleep(max(0.0, waiting[0].arrival - self._now()))
        seconds = self._now()
        for request_id in self._behind:
            self._core.abort(request_id)
        return Run(tuple(self._ended), tuple(self._steps), seconds)

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _take_in(self, waiting: deque[Request]) -> None:
        while waiting and waiting[0].arrival <= self._now():
            self._add(waiting.popleft(), self._alive)
        while len(self._behind) < self._source.count:
            self._add(replace(next(self._source.requests), arrival=self._now()), self._behind)

    def _add(self, request: Request, among: dict[str, Timeline]) -> None:
        among[request.request_id] = Timeline(request)
        self._core.add(begun(request, self._began))

    def _step(self) -> None:
        started = self._now()
        deltas = self._core.step()
        now = self._now()
        self._steps.append(now - started)
        for delta in deltas:
            if delta.error is not None:
                raise VivaceError(delta.error)
            self._note(delta, now)

    def _note(self, delta: Delta, now: float) -> None:
        among = self._alive if delta.request_id in self._alive else self._behind
        timeline = among[delta.request_id]
        timeline.take(delta, now)
        if delta.finish_reason is None:
            return
        del among[delta.request_id]
        if among is self._behind:
            return
        self._ended.append(timeline)
        following = self._follow(timeline)
        if following is not None:
            self._add(replace(following, arrival=now), self._alive)
