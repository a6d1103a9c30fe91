"""From the deltas of an engine, simulated or real, to what became of each request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import Any

import numpy as np

from vivace.bench.outcome import Outcome
from vivace.bench.serving_metrics import Wanted, summarize
from vivace.core.request import Delta, Request


class Recorder:
    """Notes when the tokens of each request came.

    Args:
        requests: all that will be asked.
        began: when the run began, on the clock of `arrival` and of `take`.
    """

    def __init__(self, requests: Sequence[Request], began: float = 0.0) -> None:
        self._requests = requests
        self._began = began
        self._tokens: dict[str, list[float]] = {one.request_id: [] for one in requests}
        self._errors: dict[str, str] = {}
        self._last = began
        self.num_finished = 0

    def refuse(self, request: Request, error: Exception) -> None:
        """It could not be served at all."""
        self._errors[request.request_id] = str(error)
        self.num_finished += 1

    def take(self, deltas: Iterable[Delta], now: float) -> None:
        """What a step that ended now adds."""
        for delta in deltas:
            self._tokens[delta.request_id].extend([now] * len(delta.token_ids))
            self._last = now
            self.num_finished += delta.finish_reason is not None
            if delta.error is not None:
                self._errors[delta.request_id] = delta.error

    def outcomes(self) -> list[Outcome]:
        return [self._outcome(request) for request in self._requests]

    def result(self, model: str, wanted: Wanted) -> dict[str, Any]:
        """The figures of the run, under the names of `bench serve`."""
        duration = max(self._last - self._began, 1e-9)
        last_arrival = max(request.arrival for request in self._requests) - self._began
        rate = len(self._requests) / last_arrival if last_arrival > 0 else inf
        return {
            "model_id": model,
            "num_prompts": len(self._requests),
            "request_rate": "inf" if rate == inf else rate,
            "max_concurrency": None,
            **summarize(self.outcomes(), duration, wanted),
        }

    def _outcome(self, request: Request) -> Outcome:
        start = request.arrival - self._began
        times = self._tokens[request.request_id]
        error = self._errors.get(request.request_id)
        if error is not None or not times:
            return Outcome(start, error=error or "It was given up without a token.")
        return Outcome(
            start=start,
            input_len=len(request.prompt_token_ids),
            output_len=len(times),
            counted=True,
            ttft=times[0] - request.arrival,
            itls=tuple(np.diff(times).tolist()),
            latency=times[-1] - request.arrival,
        )
