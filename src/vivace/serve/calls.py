"""One HTTP call as the engine sees it: the requests that answer it, and what they used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vivace.core.request import Delta, Request
from vivace.core.structured import PARAM
from vivace.serve.logprobs import TokenName, by_text
from vivace.text.answer_reader import AnswerReader


def read_plainly() -> AnswerReader:
    """Everything is content."""
    return AnswerReader(None, None)


@dataclass(frozen=True)
class Echo:
    """A prompt as it stands before an answer.

    Attributes:
        text: all of it.
        first_token: the text of its first token, which nothing predicts: it has no log-probability.
    """

    text: str
    first_token: str


@dataclass(frozen=True)
class Call:
    """Attributes:
    call_id: the id in the answer; the requests' ids begin with it.
    created: seconds since 1970.
    requests: n for each prompt in turn; a request's place is its choice's index.
    num_choices: drawn for each prompt: n, or best_of.
    num_shown: n.
    echoes: one for each prompt that is to stand before its answers, or none.
    answers: whether what was drawn is wanted; not so where the prompt alone is asked back.
    shows_logprobs: of what was drawn.
    shows_prompt_logprobs: in vLLM's field of that name.
    continuous_usage: in every chunk the usage so far.
    token_name: how log-probabilities write a token.
    reader: makes the reader of one answer.
    constraint_name: the parameter that constrains the answers.
    """

    call_id: str
    created: int
    model: str
    fingerprint: str
    requests: Sequence[Request]
    num_choices: int
    num_shown: int
    include_usage: bool = False
    return_token_ids: bool = False
    echoes: Sequence[Echo] = ()
    answers: bool = True
    shows_logprobs: bool = False
    shows_prompt_logprobs: bool = False
    continuous_usage: bool = False
    token_name: TokenName = by_text
    reader: Callable[[], AnswerReader] = read_plainly
    constraint_name: str = PARAM

    def prompt_of(self, place: int) -> int:
        """Which prompt the choice at `place` answers."""
        return place // self.num_choices

    def wanted(self, delta: Delta) -> Delta:
        """What the caller is to see of a delta."""
        if self.answers:
            return delta
        return replace(delta, token_ids=(), text="", logprobs=delta.logprobs and ())

    def head(self, object_name: str) -> dict[str, Any]:
        """What every object of the answer begins with."""
        return {
            "id": self.call_id,
            "object": object_name,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


@dataclass
class Usage:
    """Tokens of a call so far. A prompt counts once, however many choices it has."""

    prompt_tokens: int
    completion_tokens: int = 0
    cached_tokens: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, call: Call) -> Usage:
        prompts = call.requests[:: call.num_choices]
        return cls(sum(len(request.prompt_token_ids) for request in prompts))

    def take(self, index: int, delta: Delta, call: Call) -> None:
        self.completion_tokens += len(delta.token_ids)
        if index % call.num_choices == 0:
            known = self.cached_tokens.get(index, 0)
            self.cached_tokens[index] = max(known, delta.num_cached_tokens)

    def body(self) -> dict[str, Any]:
        """OpenAI's usage object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": sum(self.cached_tokens.values())},
        }
