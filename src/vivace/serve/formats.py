"""The shape of an answer: whole, or in chunks, as OpenAI's two endpoints write it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from vivace.core.request import CompletionOutput, Delta, FinishReason
from vivace.serve.calls import Call
from vivace.serve.logprobs import chat_logprobs, legacy_logprobs


class AnswerFormat(ABC):
    """Writes one call's answer. It remembers what it wrote of each choice: one per call."""

    whole_name: ClassVar[str]
    chunk_name: ClassVar[str]

    def __init__(self, call: Call) -> None:
        self.call = call
        self._chunk_head = call.head(self.chunk_name)
        if call.include_usage:
            self._chunk_head["usage"] = None  # set in the last chunk only
        self._begun: set[int] = set()

    def whole(self, outputs: list[CompletionOutput], usage: dict[str, Any]) -> dict[str, Any]:
        """The answer of a call that does not stream; outputs in the order of the choices."""
        choices = [self._whole_choice(place, output) for place, output in enumerate(outputs)]
        return {**self.call.head(self.whole_name), "choices": choices, "usage": usage}

    def chunk(self, place: int, delta: Delta) -> dict[str, Any] | None:
        """What a delta adds to choice `place`; None where that is nothing."""
        first = place not in self._begun
        self._begun.add(place)
        says = delta.text or delta.finish_reason or delta.logprobs or self.call.return_token_ids
        if not (says or first):
            return None
        choice = self._chunk_choice(place, delta, first)
        if self.call.return_token_ids:
            choice["token_ids"] = delta.token_ids
            if first:
                choice["prompt_token_ids"] = self.call.requests[place].prompt_token_ids
        return {**self._chunk_head, "choices": [choice]}

    def usage_chunk(self, usage: dict[str, Any]) -> dict[str, Any]:
        return {**self._chunk_head, "choices": [], "usage": usage}

    @abstractmethod
    def _content(self, text: str) -> dict[str, Any]:
        """The text of a whole choice."""

    @abstractmethod
    def _logprobs(self, place: int, source: Delta | CompletionOutput) -> dict[str, Any] | None: ...

    @abstractmethod
    def _chunk_content(self, text: str, first: bool) -> dict[str, Any]: ...

    def _whole_choice(self, place: int, output: CompletionOutput) -> dict[str, Any]:
        choice = {
            "index": place,
            **self._content(output.text),
            "logprobs": self._logprobs(place, output),
            "finish_reason": output.finish_reason,
            "stop_reason": output.stop_reason,
        }
        if self.call.return_token_ids:
            choice["token_ids"] = output.token_ids
            choice["prompt_token_ids"] = self.call.requests[place].prompt_token_ids
        return choice

    def _chunk_choice(self, place: int, delta: Delta, first: bool) -> dict[str, Any]:
        finish: FinishReason | None = delta.finish_reason
        choice = {
            "index": place,
            **self._chunk_content(delta.text, first),
            "logprobs": self._logprobs(place, delta),
            "finish_reason": finish,
        }
        if finish is not None:
            choice["stop_reason"] = delta.stop_reason
        return choice


class CompletionFormat(AnswerFormat):
    """/v1/completions."""

    whole_name = chunk_name = "text_completion"

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._offsets = [0] * len(call.requests)

    def _content(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def _chunk_content(self, text: str, first: bool) -> dict[str, Any]:
        return {"text": text}

    def _logprobs(self, place: int, source: Delta | CompletionOutput) -> dict[str, Any] | None:
        if not source.logprobs:
            return None
        body, self._offsets[place] = legacy_logprobs(
            source.token_ids, source.logprobs, self._offsets[place]
        )
        return body


class ChatFormat(AnswerFormat):
    """/v1/chat/completions."""

    whole_name = "chat.completion"
    chunk_name = "chat.completion.chunk"

    def _content(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def _chunk_content(self, text: str, first: bool) -> dict[str, Any]:
        content: dict[str, Any] = {"role": "assistant"} if first else {}
        if text or first:
            content["content"] = text
        return {"delta": content}

    def _logprobs(self, place: int, source: Delta | CompletionOutput) -> dict[str, Any] | None:
        if not source.logprobs:
            return None
        top = self.call.requests[place].params.logprobs or 0
        return chat_logprobs(source.token_ids, source.logprobs, top)
