"""How many tokens a step may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class TokenBudget(Protocol):
    def tokens(self, decoding: int, running: int, now: float) -> int:
        """Tokens of the next step, at least one for each running sequence.

        Args:
            decoding: running sequences with one token left to compute.
            running: all that run.
            now: seconds on the engine's clock.
        """
        ...


@dataclass(frozen=True)
class FixedBudget:
    """A number of tokens, with less prefill where it would keep others from decoding.

    Attributes:
        max_tokens: of any step.
        max_prefill_beside_decodes: tokens of prompts in a step in which others decode.
    """

    max_tokens: int
    max_prefill_beside_decodes: int

    def tokens(self, decoding: int, running: int, now: float) -> int:
        if not decoding:
            return self.max_tokens
        return min(self.max_tokens, max(decoding + self.max_prefill_beside_decodes, running))
