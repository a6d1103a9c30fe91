"""What can be served at all, how long the queue may grow, and when somebody who was sent away
should come back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from vivace.cache.blocks import KVManager
from vivace.cache.prefix import Scope
from vivace.core.errors import OverloadedError, RequestError
from vivace.core.request import Request

Estimate: TypeAlias = Callable[[int], float]  # tokens to compute -> seconds

MIN_RETRY_SECONDS = 0.1


def check_fits(request: Request, kv: KVManager) -> None:
    """Raises RequestError where it can never be served."""
    max_tokens = request.params.max_tokens
    if not request.prompt_token_ids:
        raise RequestError("The prompt is empty; give at least one token.", "prompt")
    if max_tokens is None:
        raise RequestError("max_tokens must be a number here.", "max_tokens")
    # the last token is drawn and never computed
    num_tokens = len(request.prompt_token_ids) + max_tokens - 1
    if not kv.can_hold(num_tokens, Scope.of(request)):
        raise RequestError(
            f"A prompt of {len(request.prompt_token_ids)} tokens and max_tokens of "
            f"{max_tokens} need more than all KV pages; lower them or raise the KV memory.",
            "max_tokens",
        )


class Admission:
    """Refuses what would make the queue too long. An empty queue takes a request of any size.

    Args:
        max_requests: in the queue; None is no limit.
        max_tokens: uncomputed tokens of those in the queue; None is no limit.
        estimate: seconds that it takes to compute so many tokens of the queue.
    """

    def __init__(
        self, max_requests: int | None, max_tokens: int | None, estimate: Estimate
    ) -> None:
        self._max_requests = max_requests
        self._max_tokens = max_tokens
        self._estimate = estimate

    @property
    def limited(self) -> bool:
        return self._max_requests is not None or self._max_tokens is not None

    def check(self, queued: Sequence[int], num_tokens: int) -> None:
        """Args:
            queued: uncomputed tokens of each request in the queue, in their order.
            num_tokens: those of the one that comes.

        Raises:
            OverloadedError: there is no place; it says when there will be one.
        """
        if not queued:
            return
        excess = {}  # by limit, the tokens that must leave the queue first
        if self._max_requests is not None and len(queued) >= self._max_requests:
            leaving = queued[: len(queued) - self._max_requests + 1]
            excess["max_num_queued_reqs"] = sum(leaving)
        if self._max_tokens is not None:
            excess["max_num_queued_tokens"] = sum(queued) + num_tokens - self._max_tokens
        limit = max(excess, key=excess.__getitem__, default="")
        if limit and excess[limit] > 0:
            seconds = max(self._estimate(excess[limit]), MIN_RETRY_SECONDS)
            raise OverloadedError(
                f"The queue is full with {len(queued)} requests and {sum(queued)} tokens; try "
                f"again in {seconds:.1f} seconds.",
                seconds,
                limit,
            )
