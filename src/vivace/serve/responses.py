"""OpenAI's responses, in a thin form: text in, text out, nothing kept. A call is a chat in other
words."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from vivace.core.request import Delta, FinishReason, RequestOutput
from vivace.serve.calls import Call, Usage
from vivace.serve.chat_format import said
from vivace.serve.errors import ApiError
from vivace.serve.formats import AnswerFormat
from vivace.serve.response_schemas import InputText, ResponsesBody
from vivace.serve.schemas import ChatBody, StandingBody
from vivace.serve.streaming import typed_event
from vivace.serve.turn_schemas import Message, TextPart

ID_PREFIX = "resp_"
_SAME_NAME = (*StandingBody.model_fields, "prompt_cache_key", "stream", "temperature", "top_p")
_ITEM = {"output_index": 0}
_PART = {**_ITEM, "content_index": 0}


def as_chat(body: ResponsesBody) -> ChatBody:
    """The same call in the words of chats."""
    turns = []
    if body.instructions is not None:
        turns.append(Message(role="system", content=body.instructions))
    if isinstance(body.input, str):
        turns.append(Message(role="user", content=body.input))
    else:
        turns += [Message(role=one.role, content=_content(one.content)) for one in body.input]
    fields: dict[str, Any] = {name: getattr(body, name) for name in _SAME_NAME}
    return ChatBody(messages=turns, max_completion_tokens=body.max_output_tokens, **fields)


def _content(given: str | list[InputText]) -> str | list[TextPart]:
    if isinstance(given, str):
        return given
    return [TextPart(type="text", text=part.text) for part in given]


class ResponseFormat(AnswerFormat):
    """/v1/responses. Reasoning is left out."""

    def __init__(self, call: Call, body: ResponsesBody) -> None:
        super().__init__(call)
        self._body = body
        self._numbers = count()
        self._reader = call.reader()
        self._text: list[str] = []
        self._begun = False
        self._item_id = f"msg_{call.call_id.removeprefix(ID_PREFIX)}"

    def whole(self, results: list[RequestOutput], usage: Usage) -> dict[str, Any]:
        (result,) = results
        (output,) = result.outputs
        text = said(self._reader.feed(output.text) + self._reader.finish())["content"]
        return self._response(_status(output.finish_reason), usage, text)

    def events(self, place: int, delta: Delta, usage: Usage) -> Iterator[bytes]:
        if not (self._begun or delta.token_ids or delta.finish_reason):
            return  # the prompt is being computed
        if not self._begun:
            self._begun = True
            yield from self._beginning(usage)
        found = self._reader.feed(delta.text)
        if delta.finish_reason is not None:
            found += self._reader.finish()
        if text := said(found)["content"]:
            self._text.append(text)
            piece = {"item_id": self._item_id, "delta": text, "logprobs": []}
            yield self._event("response.output_text.delta", **_PART, **piece)
        if delta.finish_reason is not None:
            yield from self._ending(_status(delta.finish_reason), usage)

    def end(self, usage: Usage) -> Iterator[bytes]:
        yield from ()

    def failure(self, error: ApiError) -> bytes:
        told = {"code": error.code, "message": str(error), "param": error.param}
        return self._event("error", **told)

    def _beginning(self, usage: Usage) -> Iterator[bytes]:
        response = self._response("in_progress", usage)
        yield self._event("response.created", response=response)
        yield self._event("response.in_progress", response=response)
        item = self._item("in_progress")
        yield self._event("response.output_item.added", **_ITEM, item=item)
        part = {"item_id": self._item_id, "part": _part("")}
        yield self._event("response.content_part.added", **_PART, **part)

    def _ending(self, status: str, usage: Usage) -> Iterator[bytes]:
        text, name = "".join(self._text), {"item_id": self._item_id}
        yield self._event("response.output_text.done", **_PART, **name, text=text, logprobs=[])
        yield self._event("response.content_part.done", **_PART, **name, part=_part(text))
        yield self._event("response.output_item.done", **_ITEM, item=self._item(status, text))
        yield self._event(f"response.{status}", response=self._response(status, usage, text))

    def _response(self, status: str, usage: Usage, text: str | None = None) -> dict[str, Any]:
        """All of it; `text` is None while it is still to come."""
        call, body, params = self.call, self._body, self.call.requests[0].params
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": call.call_id,
            "object": "response",
            "created_at": call.created,
            "status": status,
            "error": None,
            "incomplete_details": cut,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": {},
            "model": call.model,
            "output": [] if text is None else [self._item(status, text)],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "store": False,
            "temperature": params.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": params.top_p,
            "truncation": "disabled",
            "usage": None if text is None else _usage(usage),
            "user": body.user,
        }

    def _item(self, status: str, text: str | None = None) -> dict[str, Any]:
        return {
            "type": "message",
            "id": self._item_id,
            "status": status,
            "role": "assistant",
            "content": [] if text is None else [_part(text)],
        }

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = {"type": kind, "sequence_number": next(self._numbers), **fields}
        return typed_event(data)


def _status(finish_reason: FinishReason | None) -> str:
    return "completed" if finish_reason == "stop" else "incomplete"


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": sum(usage.cached_tokens.values())},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
