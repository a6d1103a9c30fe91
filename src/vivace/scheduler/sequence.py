"""One request while it is alive in the scheduler."""

from __future__ import annotations

from dataclasses import dataclass, field

from vivace.cache.blocks import SequencePages
from vivace.core.request import Request


@dataclass(eq=False)
class Sequence:
    """It runs with a seat and pages, is paused with pages alone, and else waits with neither.

    Attributes:
        number: its place in the order of arrival.
        waiting_since: when it began to be without a seat, in seconds on the scheduler's clock.
        tokens: every known token, prompt then output. Steps refer to this very list.
        pages: what it holds; None before it ran and after it gave them up.
        seated: whether it has a token in every step.
        preempted: whether it gave up pages; what is found in the cache afterwards is no hit.
        num_preemptions: how often it lost its seat.
        num_cached_tokens: prompt tokens found in the prefix cache.
        read_to: positions before it whose outputs were asked for went out.
        served: prompt tokens that its tenant was charged for, or that were found in the cache.
        queue_seconds: without a seat until it first sat; None before.
    """

    request: Request
    number: int
    waiting_since: float
    tokens: list[int] = field(init=False)
    pages: SequencePages | None = None
    seated: bool = False
    preempted: bool = False
    num_preemptions: int = 0
    num_cached_tokens: int = 0
    read_to: int = 0
    served: int = 0
    queue_seconds: float | None = None
    _waited_before: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = list(self.request.prompt_token_ids)

    @property
    def left(self) -> int:
        """Known tokens that are not computed."""
        return len(self.tokens) - (0 if self.pages is None else self.pages.computed)

    @property
    def is_prompt(self) -> bool:
        """Whether it has drawn nothing yet."""
        return len(self.tokens) == len(self.request.prompt_token_ids)

    @property
    def unread(self) -> range:
        """Positions whose outputs were asked for and did not go out, beside those that draw."""
        request, end = self.request, len(self.request.prompt_token_ids)
        if request.pooling is not None:
            return range(max(self.read_to, end - 1 if request.pooling == "last" else 0), end)
        if request.params.prompt_logprobs is not None:
            return range(self.read_to, end - 1)
        return range(0)

    @property
    def reuses(self) -> bool:
        """Whether it may take what others computed. What is found in the cache comes without
        outputs, but the last known token is always computed."""
        unread = self.unread
        return not unread or unread.start == len(self.tokens) - 1

    @property
    def decodes(self) -> bool:
        """Whether it runs, and one token of it is left to compute."""
        return self.seated and self.left == 1

    def waited(self, now: float) -> float:
        """Seconds without a seat, all in all; it never falls."""
        return self._waited_before + (0.0 if self.seated else now - self.waiting_since)

    def sit(self, now: float) -> None:
        assert self.pages is not None
        self._waited_before = self.waited(now)
        if self.queue_seconds is None:
            self.queue_seconds = self._waited_before
        self.seated = True

    def stand(self, now: float) -> None:
        self.seated = False
        self.waiting_since = now

    def is_late(self, now: float) -> bool:
        """Whether it is to be ended because its deadline passed."""
        deadline = self.request.deadline
        return self.request.drop_if_late and deadline is not None and now > deadline
