"""OpenAI's responses, in a thin form: text and functions, nothing kept. A call is a chat in other
words."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from vivace.core.request import Delta, FinishReason, RequestOutput
from vivace.serve.calls import Call, Usage
from vivace.serve.errors import ApiError
from vivace.serve.formats import AnswerFormat
from vivace.serve.response_items import CallItem, MessageItem, OutputItem, StreamEvent
from vivace.serve.response_schemas import ResponsesBody
from vivace.serve.streaming import typed_event
from vivace.serve.tools import new_call_id
from vivace.text.parsers.events import CallArguments, CallBegun, Event, Said, joined

ID_PREFIX = "resp_"


class ResponseFormat(AnswerFormat):
    """/v1/responses. Reasoning is left out."""

    def __init__(self, call: Call, body: ResponsesBody) -> None:
        super().__init__(call)
        self._body = body
        self._numbers = count()
        self._reader = call.reader()
        self._begun = False
        self._items: list[OutputItem] = []  # the last is open while the answer goes on

    def whole(self, results: list[RequestOutput], usage: Usage) -> dict[str, Any]:
        (result,) = results
        (output,) = result.outputs
        status = _status(output.finish_reason)
        for _ in self._written(output.text, status):
            pass  # nobody reads along
        return self._response(status, usage)

    def events(self, place: int, delta: Delta, usage: Usage) -> Iterator[bytes]:
        if not (self._begun or delta.token_ids or delta.finish_reason):
            return  # the prompt is being computed
        if not self._begun:
            self._begun = True
            for kind in ("created", "in_progress"):
                yield self._told(kind, "in_progress", usage)
        status = None if delta.finish_reason is None else _status(delta.finish_reason)
        for event in self._written(delta.text, status):
            yield self._event(event)
        if status is not None:
            yield self._told(status, status, usage)

    def end(self, usage: Usage) -> Iterator[bytes]:
        yield from ()

    def failure(self, error: ApiError) -> bytes:
        told = {"code": error.code, "message": str(error), "param": error.param}
        return self._event({"type": "error", **told})

    def _written(self, text: str, status: str | None) -> Iterator[StreamEvent]:
        """What more text makes of the items; `status` where the answer ends with it."""
        found = self._reader.feed(text)
        if status is not None:
            found += self._reader.finish()
        for event in joined(found):
            yield from self._take(event)
        if status is not None:
            if not self._items:
                yield from self._open(self._message())
            yield from self._items[-1].end(status)

    def _take(self, event: Event) -> Iterator[StreamEvent]:
        if isinstance(event, CallBegun):
            yield from self._open(CallItem(len(self._items), event.name, new_call_id()))
        elif isinstance(event, CallArguments):
            yield from self._items[-1].more(event.text)
        elif isinstance(event, Said):
            if not (self._items and isinstance(self._items[-1], MessageItem)):
                yield from self._open(self._message())
            yield from self._items[-1].more(event.text)

    def _open(self, item: OutputItem) -> Iterator[StreamEvent]:
        if self._items:
            yield from self._items[-1].end("completed")
        self._items.append(item)
        yield from item.begin()

    def _message(self) -> MessageItem:
        place = len(self._items)
        return MessageItem(place, f"msg_{self.call.call_id.removeprefix(ID_PREFIX)}_{place}")

    def _response(self, status: str, usage: Usage) -> dict[str, Any]:
        """All of it, as far as it is written."""
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
            "output": [item.body() for item in self._items],
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "temperature": params.temperature,
            "text": {"format": {"type": "text"}},
            **_tools(body),
            "top_p": params.top_p,
            "truncation": "disabled",
            "usage": None if status == "in_progress" else _usage(usage),
            "user": body.user,
        }

    def _told(self, kind: str, status: str, usage: Usage) -> bytes:
        response = self._response(status, usage)
        return self._event({"type": f"response.{kind}", "response": response})

    def _event(self, event: StreamEvent) -> bytes:
        return typed_event({**event, "sequence_number": next(self._numbers)})


def _tools(body: ResponsesBody) -> dict[str, Any]:
    given = body.model_dump(include={"tools", "tool_choice"})
    return {"tools": given["tools"] or [], "tool_choice": given["tool_choice"] or "auto"}


def _status(finish_reason: FinishReason | None) -> str:
    return "completed" if finish_reason == "stop" else "incomplete"


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": sum(usage.cached_tokens.values())},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
