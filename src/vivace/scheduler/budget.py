"""How many tokens a step may have."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from typing import NamedTuple, Protocol

from vivace.scheduler.config import SchedulerConfig
from vivace.scheduler.step_time import StepTimeModel

CHUNK = 16  # tokens: prefill beside decodes comes in multiples of this


class Prompt(NamedTuple):
    """A prompt that is not computed to its end.

    Attributes:
        tokens: left to compute.
        age: seconds since it arrived.
    """

    tokens: int
    age: float


@dataclass(frozen=True)
class Demand:
    """What the next step is for.

    Attributes:
        decoding: running sequences with one token left to compute.
        running: all that run.
        prompts: running or waiting, in order of arrival.
    """

    decoding: int
    running: int
    prompts: Sequence[Prompt] = ()


class TokenBudget(Protocol):
    def tokens(self, demand: Demand) -> int:
        """Tokens of the next step, at least one for each running sequence."""
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

    def tokens(self, demand: Demand) -> int:
        if not demand.decoding:
            return self.max_tokens
        wanted = demand.decoding + self.max_prefill_beside_decodes
        return min(self.max_tokens, max(wanted, demand.running))


@dataclass(frozen=True)
class StreamBudget:
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

    def tokens(self, demand: Demand) -> int:
        decoding = demand.decoding
        if not decoding or not self.model.settled:
            return self.first.tokens(demand)
        chunks = range(CHUNK, self.max_tokens - decoding + 1, CHUNK)

        def seconds(prefill: int) -> float:
            return self.model.predict(self.model.beside(decoding, prefill))

        fitting = bisect_right(chunks, self.target, key=seconds)
        prefill = chunks[fitting - 1] if fitting else CHUNK
        return min(self.max_tokens, max(decoding + prefill, demand.running))


@dataclass(frozen=True)
class FirstTokenBudget:
    """As little prefill beside decodes as brings every prompt its first token in time, so that
    running streams are held up no more than that takes. Where it cannot be in time, as much as
    the step holds.

    Attributes:
        max_tokens: of any step.
        target: seconds from a request's arrival to its first token.
        model: what steps take; fed with every step.
        first: rules until the model has seen a few steps.
    """

    max_tokens: int
    target: float
    model: StepTimeModel
    first: FixedBudget

    def tokens(self, demand: Demand) -> int:
        decoding = demand.decoding
        if not decoding or not demand.prompts or not self.model.settled:
            return self.first.tokens(demand)
        prefill = self.max_tokens - decoding
        while prefill // 2 >= CHUNK and self._in_time(demand, prefill // 2):
            prefill //= 2
        return min(self.max_tokens, max(decoding + prefill, demand.running))

    def _in_time(self, demand: Demand, prefill: int) -> bool:
        step = self.model.predict(self.model.beside(demand.decoding, prefill))
        ends = accumulate(prompt.tokens for prompt in demand.prompts)
        return all(
            ceil(end / prefill) * step <= self.target - prompt.age
            for end, prompt in zip(ends, demand.prompts, strict=True)
        )


def token_budget(config: SchedulerConfig, model: StepTimeModel) -> TokenBudget:
    """The budget that the limits and targets of a configuration ask for."""
    most = config.max_num_batched_tokens
    fixed = FixedBudget(most, config.max_prefill_beside_decodes)
    if config.target_itl_ms is not None:
        return StreamBudget(most, config.target_itl_ms / 1000, model, fixed)
    if config.target_ttft_ms is not None:
        return FirstTokenBudget(most, config.target_ttft_ms / 1000, model, fixed)
    return fixed
