"""Conversations of random tokens: each turn's prompt is all that was said before and a question."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduling.drive import Timeline
from vivace.core.request import Request
from vivace.core.sampling import SamplingParams


@dataclass(frozen=True)
class Shape:
    """Attributes:
    turns: of each conversation.
    system: tokens that all of them begin with.
    asked, answered: tokens of a turn.
    """

    conversations: int
    turns: int
    system: int
    asked: int
    answered: int


class Conversations:
    """What was said so far in each. Answers are greedy, so a run's tokens are the model's own."""

    def __init__(self, shape: Shape, vocab_size: int, rng: np.random.Generator) -> None:
        self._shape = shape
        self._vocab_size = vocab_size
        self._rng = rng
        self._tag = rng.bytes(4).hex()
        self._said = [self._tokens(shape.system)] * shape.conversations
        self._turns = [0] * shape.conversations
        self._numbers: dict[str, int] = {}  # of the conversation, by request

    def first_turns(self) -> list[Request]:
        """The first question of each conversation, arriving at 0."""
        return [self._ask(number, self._shape.answered) for number in range(len(self._said))]

    def reply(self, timeline: Timeline) -> Request | None:
        """An answer has come; the next question, if that was not the last turn."""
        number = self._numbers[timeline.request.request_id]
        self._said[number] = (*timeline.request.prompt_token_ids, *timeline.token_ids)
        if self._turns[number] == self._shape.turns:
            return None
        return self._ask(number, self._shape.answered)

    def openings(self) -> list[Request]:
        """One more question in each, of which only the first token is wanted."""
        return [self._ask(number, 1) for number in range(len(self._said))]

    def _ask(self, number: int, answered: int) -> Request:
        self._turns[number] += 1
        name = f"chat-{self._tag}-{number}-{self._turns[number]}"
        self._numbers[name] = number
        return Request(
            request_id=name,
            prompt_token_ids=(*self._said[number], *self._tokens(self._shape.asked)),
            params=SamplingParams(temperature=0.0, max_tokens=answered, ignore_eos=True),
        )

    def _tokens(self, number: int) -> tuple[int, ...]:
        return tuple(self._rng.integers(0, self._vocab_size, number).tolist())
