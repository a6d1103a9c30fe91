"""The shape of a chat's answer, as OpenAI writes it: content, reasoning, calls of tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vivace.core.request import CompletionOutput, Delta, RequestOutput
from vivace.serve.calls import Call, Usage
from vivace.serve.formats import OpenAIFormat
from vivace.serve.logprobs import chat_logprobs, prompt_logprobs
from vivace.serve.tools import new_call_id
from vivace.text.answer_reader import AnswerReader
from vivace.text.parsers.events import CallArguments, CallBegun, Event, Said, Thought, joined


class ChatFormat(OpenAIFormat):
    """/v1/chat/completions."""

    id_prefix = "chatcmpl-"
    whole_name = "chat.completion"
    chunk_name = "chat.completion.chunk"

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._readers: dict[int, AnswerReader] = {}
        self._calling: set[int] = set()  # choices with calls

    def whole(self, results: list[RequestOutput], usage: Usage) -> dict[str, Any]:
        answer = super().whole(results, usage)
        if self.call.shows_prompt_logprobs:
            answer["prompt_logprobs"] = prompt_logprobs(self._scores[0])
        return answer

    def _whole_choice(self, index: int, place: int, result: RequestOutput) -> dict[str, Any]:
        choice = super()._whole_choice(index, place, result)
        return {**choice, "finish_reason": self._finish_reason(place, choice["finish_reason"])}

    def _content(self, place: int, text: str) -> dict[str, Any]:
        reader = self.call.reader()
        events = joined(reader.feed(text) + reader.finish())
        message: dict[str, Any] = {"role": "assistant", **said(events), "refusal": None}
        calls = whole_calls(events)
        if calls:
            self._calling.add(place)
            message["tool_calls"] = calls
            message["content"] = message["content"] or None
        return {"message": message}

    def _chunk_choice(self, place: int, delta: Delta, first: bool) -> dict[str, Any]:
        choice = super()._chunk_choice(place, delta, first)
        return {**choice, "finish_reason": self._finish_reason(place, delta.finish_reason)}

    def _chunk_content(self, place: int, delta: Delta, first: bool) -> dict[str, Any]:
        reader = self._readers.setdefault(place, self.call.reader())
        events = reader.feed(delta.text)
        if delta.finish_reason is not None:
            events += reader.finish()
        content: dict[str, Any] = {"role": "assistant", "content": ""} if first else {}
        content |= {key: text for key, text in said(events).items() if text}
        calls = [_call_piece(event) for event in joined(events) if not _is_text(event)]
        if calls:
            self._calling.add(place)
            content["tool_calls"] = calls
        return {"delta": content}

    def _says(self, choice: dict[str, Any], delta: Delta) -> bool:
        return bool(choice["delta"] or delta.finish_reason or delta.logprobs)

    def _finish_reason(self, place: int, reason: str | None) -> str | None:
        return "tool_calls" if reason == "stop" and place in self._calling else reason

    def _logprobs(
        self, place: int, source: Delta | CompletionOutput, first: bool
    ) -> dict[str, Any] | None:
        if not source.logprobs:
            return None
        top = self.call.requests[place].params.logprobs or 0
        return chat_logprobs(source.token_ids, source.logprobs, top, self.call.token_name)


def said(events: Sequence[Event]) -> dict[str, Any]:
    """Content, and, by its two names, reasoning where there is some."""
    thoughts = "".join(event.text for event in events if isinstance(event, Thought))
    content = "".join(event.text for event in events if isinstance(event, Said))
    reasoning = {"reasoning_content": thoughts, "reasoning": thoughts} if thoughts else {}
    return {"content": content, **reasoning}


def whole_calls(events: Sequence[Event]) -> list[dict[str, Any]]:
    """OpenAI's tool calls."""
    names = {event.index: event.name for event in events if isinstance(event, CallBegun)}
    texts = {event.index: event.text for event in events if isinstance(event, CallArguments)}
    return [
        {
            "id": new_call_id(),
            "type": "function",
            "function": {"name": name, "arguments": texts.get(index, "")},
        }
        for index, name in names.items()
    ]


def _is_text(event: Event) -> bool:
    return isinstance(event, Said | Thought)


def _call_piece(event: Event) -> dict[str, Any]:
    """What an event adds to a call in a stream: first its name, then its arguments."""
    assert isinstance(event, CallBegun | CallArguments)
    if isinstance(event, CallArguments):
        return {"index": event.index, "function": {"arguments": event.text}}
    function = {"name": event.name, "arguments": ""}
    return {"index": event.index, "id": new_call_id(), "type": "function", "function": function}
