"""One request while it is alive in the scheduler."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from vivace.cache.blocks import SequencePages
from vivace.core.request import Request

Rank: TypeAlias = tuple[float, ...]


@dataclass(eq=False)
class Sequence:
    """Attributes:
    rank: lower runs earlier and is preempted later.
    tokens: every known token, prompt then output. Steps refer to this very list.
    pages: what it holds while it runs; None while it waits.
    admitted: whether it ran before; what is found in the cache after a preemption is no hit.
    num_cached_tokens: prompt tokens found in the prefix cache.
    """

    request: Request
    rank: Rank
    tokens: list[int] = field(init=False)
    pages: SequencePages | None = None
    preempted: bool = False
    num_cached_tokens: int = 0

    def __post_init__(self) -> None:
        self.tokens = list(self.request.prompt_token_ids)

    @property
    def decodes(self) -> bool:
        """Whether it runs, and one token of it is left to compute."""
        return self.pages is not None and len(self.tokens) - self.pages.computed == 1
