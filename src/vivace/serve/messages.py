"""Anthropic's messages, in a thin form: text in, text out. A call is a chat in other words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vivace.core.request import CompletionOutput, Delta, FinishReason, RequestOutput
from vivace.serve.calls import Call, Usage
from vivace.serve.errors import ApiError, anthropic_error_body
from vivace.serve.formats import AnswerFormat
from vivace.serve.message_schemas import ConversationBody, MessagesBody, TextBlock
from vivace.serve.schemas import ChatBody, StandingBody
from vivace.serve.streaming import typed_event
from vivace.serve.turn_schemas import Message, TextPart

ID_PREFIX = "msg_"
_STANDING = tuple(StandingBody.model_fields)
# What it was that ended the answer; where nothing else did, it was cut off.
_STOP_REASONS: dict[FinishReason, str] = {"stop": "end_turn"}
_CUT_OFF = "max_tokens"


def as_chat(body: ConversationBody) -> ChatBody:
    """The same call in OpenAI's words. The answer goes on with a last turn of the assistant's."""
    turns = [Message(role=turn.role, content=_content(turn.content)) for turn in body.messages]
    system = [] if body.system is None else [Message(role="system", content=_content(body.system))]
    fields: dict[str, Any] = {name: getattr(body, name) for name in _STANDING}
    if isinstance(body, MessagesBody):
        fields |= {
            "max_tokens": body.max_tokens,
            "stop": body.stop_sequences,
            "stream": body.stream,
            "temperature": body.temperature,
            "top_k": body.top_k,
            "top_p": body.top_p,
        }
        if body.metadata is not None and body.user is None:
            fields["user"] = body.metadata.user_id
    continues = turns[-1].role == "assistant"
    return ChatBody(messages=[*system, *turns], continue_final_message=continues, **fields)


def _content(given: str | list[TextBlock]) -> str | list[TextPart]:
    if isinstance(given, str):
        return given
    return [TextPart(type="text", text=block.text) for block in given]


class MessageFormat(AnswerFormat):
    """/v1/messages."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._begun = False

    def whole(self, results: list[RequestOutput], usage: Usage) -> dict[str, Any]:
        (result,) = results
        (output,) = result.outputs
        content = [{"type": "text", "text": output.text}]
        return {**self._head(usage), "content": content, **_ending(output)}

    def events(self, place: int, delta: Delta, usage: Usage) -> Iterator[bytes]:
        if not (self._begun or delta.token_ids or delta.finish_reason):
            return  # the prompt is being computed
        if not self._begun:
            self._begun = True
            yield _event("message_start", message=self._head(usage))
            block = {"type": "text", "text": ""}
            yield _event("content_block_start", index=0, content_block=block)
        if delta.text:
            text = {"type": "text_delta", "text": delta.text}
            yield _event("content_block_delta", index=0, delta=text)
        if delta.finish_reason is not None:
            yield _event("content_block_stop", index=0)
            tokens = {"output_tokens": usage.completion_tokens}
            yield _event("message_delta", delta=_ending(delta), usage=tokens)

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


def _ending(ended: CompletionOutput | Delta) -> dict[str, Any]:
    """Why an answer ended. A stop token ends it as the model's own does."""
    if isinstance(ended.stop_reason, str):
        return {"stop_reason": "stop_sequence", "stop_sequence": ended.stop_reason}
    assert ended.finish_reason is not None
    reason = _STOP_REASONS.get(ended.finish_reason, _CUT_OFF)
    return {"stop_reason": reason, "stop_sequence": None}


def _event(kind: str, **fields: Any) -> bytes:
    return typed_event({"type": kind, **fields})
