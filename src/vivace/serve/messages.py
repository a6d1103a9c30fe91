"""Anthropic's messages, in a thin form: text and tools. A call is a chat in other words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from vivace.core.request import CompletionOutput, Delta, FinishReason, RequestOutput
from vivace.serve.calls import Call, Usage
from vivace.serve.chat_format import said, whole_calls
from vivace.serve.errors import ApiError, anthropic_error_body
from vivace.serve.formats import AnswerFormat
from vivace.serve.streaming import typed_event
from vivace.serve.tools import new_call_id
from vivace.text.parsers.events import CallArguments, CallBegun, Event, Said, joined

ID_PREFIX = "msg_"
# What it was that ended the answer; where nothing else did, it was cut off.
_STOP_REASONS: dict[FinishReason, str] = {"stop": "end_turn"}
_CUT_OFF = "max_tokens"


class MessageFormat(AnswerFormat):
    """/v1/messages. Reasoning is left out."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._reader = call.reader()
        self._begun = False
        self._block: str | None = None  # the kind of the one that is open
        self._num_blocks = 0
        self._calls = False

    def whole(self, results: list[RequestOutput], usage: Usage) -> dict[str, Any]:
        (result,) = results
        (output,) = result.outputs
        events = joined(self._reader.feed(output.text) + self._reader.finish())
        calls = [_tool_use(call) for call in whole_calls(events)]
        text = said(events)["content"]
        content = [{"type": "text", "text": text}] if text or not calls else []
        self._calls = bool(calls)
        return {**self._head(usage), "content": [*content, *calls], **self._ending(output)}

    def events(self, place: int, delta: Delta, usage: Usage) -> Iterator[bytes]:
        if not (self._begun or delta.token_ids or delta.finish_reason):
            return  # the prompt is being computed
        if not self._begun:
            self._begun = True
            yield _event("message_start", message=self._head(usage))
        found = self._reader.feed(delta.text)
        if delta.finish_reason is not None:
            found += self._reader.finish()
        for event in joined(found):
            yield from self._piece(event)
        if delta.finish_reason is not None:
            if not self._num_blocks:
                yield from self._open({"type": "text", "text": ""})
            yield from self._close()
            tokens = {"output_tokens": usage.completion_tokens}
            yield _event("message_delta", delta=self._ending(delta), usage=tokens)

    def _piece(self, event: Event) -> Iterator[bytes]:
        if isinstance(event, Said):
            if self._block != "text":
                yield from self._open({"type": "text", "text": ""})
            yield self._more({"type": "text_delta", "text": event.text})
        elif isinstance(event, CallBegun):
            self._calls = True
            block = {"type": "tool_use", "id": f"toolu_{new_call_id()}", "name": event.name}
            yield from self._open({**block, "input": {}})
        elif isinstance(event, CallArguments):
            yield self._more({"type": "input_json_delta", "partial_json": event.text})

    def _open(self, block: dict[str, Any]) -> Iterator[bytes]:
        yield from self._close()
        self._block = block["type"]
        yield _event("content_block_start", index=self._num_blocks, content_block=block)
        self._num_blocks += 1

    def _more(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._num_blocks - 1, delta=delta)

    def _close(self) -> Iterator[bytes]:
        if self._block is not None:
            yield _event("content_block_stop", index=self._num_blocks - 1)
        self._block = None

    def _ending(self, ended: CompletionOutput | Delta) -> dict[str, Any]:
        """Why an answer ended. A stop token ends it as the model's own does."""
        if isinstance(ended.stop_reason, str):
            return {"stop_reason": "stop_sequence", "stop_sequence": ended.stop_reason}
        assert ended.finish_reason is not None
        reason = _STOP_REASONS.get(ended.finish_reason, _CUT_OFF)
        calls = self._calls and reason != _CUT_OFF
        return {"stop_reason": "tool_use" if calls else reason, "stop_sequence": None}

    def end(self, usage: Usage) -> Iterator[bytes]:
        yield _event("message_stop")

    def failure(self, error: ApiError) -> bytes:
        return _event("error", **anthropic_error_body(error))

    def _head(self, usage: Usage) -> dict[str, Any]:
        """A message whose content is still to come."""
        cached = sum(usage.cached_tokens.values())
        return {
            "id": self.call.call_id,
            "type": "message",
            "role": "assistant",
            "model": self.call.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": usage.prompt_tokens - cached,
                "cache_read_input_tokens": cached,
                "cache_creation_input_tokens": 0,
                "output_tokens": usage.completion_tokens,
            },
        }


def _tool_use(call: dict[str, Any]) -> dict[str, Any]:
    """One that was cut off has what could be read of its input: nothing."""
    function = call["function"]
    try:
        given = json.loads(function["arguments"])
    except ValueError:
        given = {}
    return {
        "type": "tool_use",
        "id": f"toolu_{call['id']}",
        "name": function["name"],
        "input": given,
    }


def _event(kind: str, **fields: Any) -> bytes:
    return typed_event({"type": kind, **fields})
