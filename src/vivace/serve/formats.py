"""The shape of an answer: whole, or in events; as OpenAI's two older endpoints write it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from vivace.core.request import (
    CompletionOutput,
    Delta,
    FinishReason,
    Logprob,
    RequestOutput,
)
from vivace.serve.calls import Call, Echo, Usage
from vivace.serve.errors import ApiError, error_body
from vivace.serve.logprobs import legacy_logprobs, prompt_logprobs
from vivace.serve.streaming import DONE, event


class AnswerFormat(ABC):
    """Writes one call's answer. It may remember what it wrote of each choice: one per call."""

    def __init__(self, call: Call) -> None:
        self.call = call

    @abstractmethod
    def whole(self, results: list[RequestOutput], usage: Usage) -> dict[str, Any]:
        """The answer of a call that does not stream; results in the order of the requests."""

    @abstractmethod
    def events(self, place: int, delta: Delta, usage: Usage) -> Iterator[bytes]:
        """What a delta adds to choice `place`; `usage` has it already."""

    @abstractmethod
    def end(self, usage: Usage) -> Iterator[bytes]:
        """What comes behind the last delta."""

    @abstractmethod
    def failure(self, error: ApiError) -> bytes:
        """The end of a stream that failed after its beginning."""


class OpenAIFormat(AnswerFormat):
    """What OpenAI's two older endpoints have in common."""

    id_prefix: ClassVar[str]
    whole_name: ClassVar[str]
    chunk_name: ClassVar[str]

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._chunk_head = call.head(self.chunk_name)
        if call.include_usage:
            self._chunk_head["usage"] = None  # set in the last chunk only
        self._begun: set[int] = set()
        # By prompt; where nobody asked for them they stay as they begin.
        self._scores: dict[int, list[dict[int, Logprob] | None]] = defaultdict(lambda: [None])

    def whole(self, results: list[RequestOutput], usage: Usage) -> dict[str, Any]:
        for place, result in enumerate(results):
            if result.prompt_logprobs is not None:
                self._scores[self.call.prompt_of(place)] = result.prompt_logprobs
        shown = _shown(self.call, results)
        choices = [
            self._whole_choice(index, place, results[place]) for index, place in enumerate(shown)
        ]
        return {**self.call.head(self.whole_name), "choices": choices, "usage": usage.body()}

    def events(self, place: int, delta: Delta, usage: Usage) -> Iterator[bytes]:
        chunk = self._chunk(place, delta)
        if chunk is None:
            return
        if self.call.continuous_usage:
            chunk["usage"] = usage.body()
        yield event(chunk)

    def end(self, usage: Usage) -> Iterator[bytes]:
        if self.call.include_usage:
            yield event({**self._chunk_head, "choices": [], "usage": usage.body()})
        yield DONE

    def failure(self, error: ApiError) -> bytes:
        return event(error_body(error)) + DONE

    def _chunk(self, place: int, delta: Delta) -> dict[str, Any] | None:
        """What a delta adds to choice `place`; None where that is nothing."""
        if delta.prompt_logprobs:
            self._scores[self.call.prompt_of(place)].extend(delta.prompt_logprobs)
        first = place not in self._begun
        if first and not (delta.token_ids or delta.finish_reason):
            return None  # its prompt is being computed
        self._begun.add(place)
        choice = self._chunk_choice(place, delta, first)
        if not (first or self.call.return_token_ids or self._says(choice, delta)):
            return None
        if self.call.return_token_ids:
            choice["token_ids"] = delta.token_ids
            if first:
                choice["prompt_token_ids"] = self.call.requests[place].prompt_token_ids
        return {**self._chunk_head, "choices": [choice]}

    @abstractmethod
    def _content(self, place: int, text: str) -> dict[str, Any]:
        """The text of a whole choice."""

    @abstractmethod
    def _logprobs(
        self, place: int, source: Delta | CompletionOutput, first: bool
    ) -> dict[str, Any] | None:
        """Those of a whole choice or of a chunk, which may be its first."""

    @abstractmethod
    def _chunk_content(self, place: int, delta: Delta, first: bool) -> dict[str, Any]: ...

    def _says(self, choice: dict[str, Any], delta: Delta) -> bool:
        """Whether a chunk would tell anything."""
        return bool(delta.text or delta.finish_reason or delta.logprobs)

    def _whole_choice(self, index: int, place: int, result: RequestOutput) -> dict[str, Any]:
        (output,) = result.outputs
        choice = {
            "index": index,
            **self._content(place, output.text),
            "logprobs": self._logprobs(place, output, first=True),
            "finish_reason": output.finish_reason,
            "stop_reason": output.stop_reason,
        }
        if self.call.return_token_ids:
            choice["token_ids"] = output.token_ids
            choice["prompt_token_ids"] = result.prompt_token_ids
        return choice

    def _chunk_choice(self, place: int, delta: Delta, first: bool) -> dict[str, Any]:
        finish: FinishReason | None = delta.finish_reason
        choice = {
            "index": place,
            **self._chunk_content(place, delta, first),
            "logprobs": self._logprobs(place, delta, first),
            "finish_reason": finish,
        }
        if finish is not None:
            choice["stop_reason"] = delta.stop_reason
        return choice


class CompletionFormat(OpenAIFormat):
    """/v1/completions."""

    id_prefix = "cmpl-"
    whole_name = chunk_name = "text_completion"

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._offsets = [0] * len(call.requests)

    def _content(self, place: int, text: str) -> dict[str, Any]:
        echo = self._echo(place)
        content: dict[str, Any] = {"text": text if echo is None else echo.text + text}
        if self.call.shows_prompt_logprobs:
            scores = self._scores[self.call.prompt_of(place)]
            content["prompt_logprobs"] = prompt_logprobs(scores)
        return content

    def _chunk_content(self, place: int, delta: Delta, first: bool) -> dict[str, Any]:
        return self._content(place, delta.text) if first else {"text": delta.text}

    def _logprobs(
        self, place: int, source: Delta | CompletionOutput, first: bool
    ) -> dict[str, Any] | None:
        if source.logprobs is None or not self.call.shows_logprobs:
            return None
        token_ids = tuple(source.token_ids)
        entries: tuple[dict[int, Logprob] | None, ...] = tuple(source.logprobs)
        echo = self._echo(place) if first else None
        if echo is not None:
            scores = self._scores[self.call.prompt_of(place)]
            known = self.call.requests[place].prompt_token_ids[: len(scores)]
            token_ids, entries = (*known, *token_ids), (*scores, *entries)
        if not entries:
            return None
        first_text = "" if echo is None else echo.first_token
        body, self._offsets[place] = legacy_logprobs(
            token_ids, entries, self._offsets[place], first_text, self.call.token_name
        )
        return body

    def _echo(self, place: int) -> Echo | None:
        echoes = self.call.echoes
        return echoes[self.call.prompt_of(place)] if echoes else None


def _shown(call: Call, results: Sequence[RequestOutput]) -> list[int]:
    """The places of the choices to show: all, or each prompt's most likely ones, the best first."""
    places = list(range(len(results)))
    if call.num_shown == call.num_choices:
        return places
    shown = []
    for first in places[:: call.num_choices]:
        drawn = places[first : first + call.num_choices]
        drawn.sort(key=lambda place: _mean_logprob(results[place]), reverse=True)
        shown += drawn[: call.num_shown]
    return shown


def _mean_logprob(result: RequestOutput) -> float:
    """By token, as OpenAI ranks what `best_of` drew."""
    (output,) = result.outputs
    if not output.token_ids or output.cumulative_logprob is None:
        return -math.inf
    return output.cumulative_logprob / len(output.token_ids)
