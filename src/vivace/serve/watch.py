"""Times requests while they run, and says what became of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from vivace.core.request import Delta, FinishReason, Request


@dataclass(frozen=True)
class FinishedRequest:
    """What became of a request. Times are seconds.

    Attributes:
        error: why it failed, in a sentence.
        error_code: and in a word for programs.
        ended: since 1970.
        e2e: from its arrival to its end.
        first: from its arrival to its first token; None where it drew none.
        last: and to its last.
        queued: from its arrival until it first ran; None where it drew no token.
    """

    request: Request
    reason: FinishReason
    error: str | None
    error_code: str | None
    num_tokens: int
    num_cached_tokens: int
    num_preemptions: int
    ended: float
    e2e: float
    first: float | None
    last: float
    queued: float | None

    @property
    def prefill(self) -> float | None:
        """From the end of its wait to its first token."""
        if self.first is None or self.queued is None:
            return None
        return max(0.0, self.first - self.queued)

    @property
    def decode(self) -> float | None:
        """From its first token to its last."""
        return None if self.first is None else self.last - self.first

    @property
    def inference(self) -> float | None:
        """Prefill and decode together."""
        if self.prefill is None or self.decode is None:
            return None
        return self.prefill + self.decode


Listener: TypeAlias = Callable[[FinishedRequest], None]


class Meters(Protocol):
    """What watches report to: `metrics.ServerMetrics`."""

    def began(self, request: Request, seconds: float, known: int) -> None: ...

    def went_on(self, seconds: float) -> None: ...

    def finished(self, one: FinishedRequest) -> None: ...

    def answered(self, num_choices: int, longest: int) -> None: ...


class RequestWatch:
    """Times one request, from its making to `close`."""

    def __init__(self, metrics: Meters, request: Request) -> None:
        self._metrics = metrics
        self._request = request
        self._tokens = 0
        self._end = Delta(request.request_id, finish_reason="abort")  # unless another comes
        self._cached = 0
        self._preemptions = 0
        self._queued: float | None = None
        self._first: float | None = None
        self._arrival = self._last = time.monotonic()

    def saw(self, delta: Delta) -> None:
        self._cached = max(self._cached, delta.num_cached_tokens)
        self._preemptions = max(self._preemptions, delta.num_preemptions)
        if delta.token_ids:
            self._count_tokens(delta, time.monotonic())
        if delta.finish_reason is not None:
            self._end = delta

    def close(self) -> None:
        """The request ended, or its client left."""
        self._metrics.finished(self._finished())

    def _count_tokens(self, delta: Delta, now: float) -> None:
        if self._first is None:
            self._first, self._queued = now - self._arrival, delta.queue_seconds
            self._metrics.began(self._request, self._first, delta.num_cached_tokens)
        else:
            self._metrics.went_on(now - self._last)
        self._last = now
        self._tokens += len(delta.token_ids)

    def _finished(self) -> FinishedRequest:
        return FinishedRequest(
            self._request,
            self._end.finish_reason or "abort",
            self._end.error,
            self._end.error_code,
            self._tokens,
            self._cached,
            self._preemptions,
            ended=time.time(),
            e2e=time.monotonic() - self._arrival,
            first=self._first,
            last=self._last - self._arrival,
            queued=self._queued,
        )


class CallWatch:
    """Counts the tokens of a call's requests, until `close`."""

    def __init__(self, metrics: Meters, requests: Sequence[Request]) -> None:
        self._metrics = metrics
        self._num_prompts = sum(request.index == 0 for request in requests)
        self._tokens = [0] * len(requests)

    def saw(self, place: int, delta: Delta) -> None:
        self._tokens[place] += len(delta.token_ids)

    def close(self) -> None:
        choices = len(self._tokens) // self._num_prompts
        for first in range(0, len(self._tokens), choices):
            self._metrics.answered(choices, max(self._tokens[first : first + choices]))
