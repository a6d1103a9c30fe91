"""What was said to one request and not taken yet."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace

from vivace.core.request import Delta, Logprob

MAX_APART = 64  # deltas that wait before further ones are put together
MAX_TOGETHER = 256  # tokens


class DeltaQueue:
    """Deltas of one request, for one reader. Where it reads late they are put together, so that
    they hold little more memory than their tokens, and that it can catch up."""

    def __init__(self) -> None:
        self._deltas: deque[Delta] = deque()
        self._waiting: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._deltas)

    def put(self, delta: Delta) -> None:
        deltas = self._deltas
        if len(deltas) >= MAX_APART and len(deltas[-1].token_ids) < MAX_TOGETHER:
            deltas[-1] = together(deltas[-1], delta)
        else:
            deltas.append(delta)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def get(self) -> Delta:
        """The next one, waiting for it where there is none."""
        while not self._deltas:
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        return self._deltas.popleft()


def together(first: Delta, second: Delta) -> Delta:
    """One delta that says what two did, one after the other."""
    queued = first.queue_seconds
    return replace(
        second,
        token_ids=first.token_ids + second.token_ids,
        text=first.text + second.text,
        logprobs=_joined(first.logprobs, second.logprobs),
        prompt_logprobs=_joined(first.prompt_logprobs, second.prompt_logprobs),
        num_cached_tokens=max(first.num_cached_tokens, second.num_cached_tokens),
        queue_seconds=second.queue_seconds if queued is None else queued,
    )


def _joined(
    first: tuple[dict[int, Logprob], ...] | None, second: tuple[dict[int, Logprob], ...] | None
) -> tuple[dict[int, Logprob], ...] | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second
