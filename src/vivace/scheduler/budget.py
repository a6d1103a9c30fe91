"""How many tokens a step may have."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Protocol

from vivace.scheduler.config import SchedulerConfig
from vivace.scheduler.step_time import StepTimeModel

CHUNK = 16  # tokens: prefill beside decodes comes in multiples of this


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


@dataclass(frozen=True)
class TargetBudget:
    """As much prefill beside decodes as lets running streams keep their time between tokens.

    That is also the prefill that brings first tokens soonest without breaking this promise. Where
    nobody decodes, prefill fills the step. A chunk of prefill is always allowed, so that prompts
    get on even where decoding alone misses the target.

    Attributes:
        max_tokens: of any step.
        target: seconds between two tokens of a stream.
        model: what steps take; fed with every step.
        first: rules until the model has seen a few steps.
    """

    max_tokens: int
    target: float
    model: StepTimeModel
    first: FixedBudget

    def tokens(self, decoding: int, running: int, now: float) -> int:
        if not decoding or not self.model.settled:
            return self.first.tokens(decoding, running, now)
        chunks = range(CHUNK, self.max_tokens - decoding + 1, CHUNK)

        def seconds(prefill: int) -> float:
            return self.model.predict(self.model.beside(decoding, prefill))

        fitting = bisect_right(chunks, self.target, key=seconds)
        prefill = chunks[fitting - 1] if fitting else CHUNK
        return min(self.max_tokens, max(decoding + prefill, running))


def token_budget(config: SchedulerConfig, model: StepTimeModel) -> TokenBudget:
    """The budget that the limits and targets of a configuration ask for."""
    most = config.max_num_batched_tokens
    fixed = FixedBudget(most, config.max_prefill_beside_decodes)
    if config.target_itl_ms is not None:
        return TargetBudget(most, config.target_itl_ms / 1000, model, fixed)
    if config.target_ttft_ms is not None:  # nothing was promised to streams that run
        return FixedBudget(most, most)
    return fixed
