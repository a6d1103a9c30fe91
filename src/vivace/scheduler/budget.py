"""How many may run at once, and how many tokens of prompts a step may have in which some decode."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, inf
from typing import NamedTuple, Protocol

from vivace.scheduler.config import SchedulerConfig
from vivace.scheduler.sequence import Sequence
from vivace.scheduler.step_time import StepTimeModel

CHUNK = 16  # tokens: the least prefill beside decodes
TILE = 16  # tokens of a step that kernels compute together: part of one costs as much as all
SLACK = 1.1  # times the target: for less nobody is refused a seat, who would wait for an answer


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
        best_priority: the lowest number among these; inf where there is none.
        prompts: running or waiting, in order of arrival.
    """

    decoding: int
    best_priority: float = inf
    prompts: SequenceOf[Prompt] = ()

    @staticmethod
    def of(alive: Collection[Sequence], now: float) -> Demand:
        """The demand of sequences in order of arrival."""
        streams = [one.request.priority for one in alive if one.decodes]
        prompts = [Prompt(one.left, now - one.request.arrival) for one in alive if one.is_prompt]
        return Demand(len(streams), min(streams, default=inf), prompts)


class StepBudget(Protocol):
    def seats(self, most: int) -> int:
        """How many sequences may run at once: at least 1, and no more than `most`."""
        ...

    def prefill(self, demand: Demand) -> int:
        """Tokens of prompts in the next step, at least 1; some sequences decode in it."""
        ...


@dataclass(frozen=True)
class FixedBudget:
    """So many tokens, whatever they take.

    Attributes:
        max_prefill_beside_decodes: tokens of prompts in a step in which others decode.
    """

    max_prefill_beside_decodes: int

    def seats(self, most: int) -> int:
        return most

    def prefill(self, demand: Demand) -> int:
        return self.max_prefill_beside_decodes


@dataclass(frozen=True)
class StreamBudget:
    """As many sequences as can decode together, and as much prefill beside them, as let running
    streams keep their time between tokens, nine times of ten.

    That is also the prefill that brings first tokens soonest without breaking this promise. A
    chunk of prefill is always allowed, so that prompts get on even where decoding alone misses
    the target; who runs keeps its seat then.

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

    def seats(self, most: int) -> int:
        if not self.model.settled:
            return self.first.seats(most)

        def seconds(streams: int) -> float:
            return self.model.predict(self.model.beside(streams, 0))

        return max(1, bisect_right(range(1, most + 1), SLACK * self.target, key=seconds))

    def prefill(self, demand: Demand) -> int:
        if not self.model.settled:
            return self.first.prefill(demand)
        decoding = demand.decoding
        least = ceil((decoding + CHUNK) / TILE) * TILE
        tokens = range(least, self.max_tokens + 1, TILE)

        def seconds(tokens: int) -> float:
            return self.model.predict(self.model.beside(decoding, tokens - decoding))

        fitting = bisect_right(tokens, self.target / self.model.margin, key=seconds)
        return tokens[fitting - 1] - decoding if fitting else CHUNK


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

    def seats(self, most: int) -> int:
        return most

    def prefill(self, demand: Demand) -> int:
        if not demand.prompts or not self.model.settled:
            return self.first.prefill(demand)
        most = max(CHUNK, self.max_tokens - demand.decoding)
        halves = (most >> times for times in range(most.bit_length()))
        fitting = [one for one in halves if one >= CHUNK and self._in_time(demand, one)]
        return min(fitting, default=most)

    def _in_time(self, demand: Demand, prefill: int) -> bool:
        step = self.model.predict(self.model.beside(demand.decoding, prefill))
        ends = accumulate(prompt.tokens for prompt in demand.prompts)
        return all(
            ceil(end / prefill) * step <= self.target - prompt.age
            for end, prompt in zip(ends, demand.prompts, strict=True)
        )


def step_budget(config: SchedulerConfig, model: StepTimeModel) -> StepBudget:
    """The budget that the limits and targets of a configuration ask for."""
    most = config.max_num_batched_tokens
    fixed = FixedBudget(config.max_prefill_beside_decodes)
    if config.target_itl_ms is not None:
        return StreamBudget(most, config.target_itl_ms / 1000, model, fixed)
    if config.target_ttft_ms is not None:
        return FirstTokenBudget(most, config.target_ttft_ms / 1000, model, fixed)
    return fixed
