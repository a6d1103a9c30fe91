"""The turns of a conversation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vivace.serve.strict import Body, ListOf, Neutral

# An assistant message that came from a client library carries these as null.
NEUTRAL_IN_MESSAGE: Neutral = {
    "annotations": ([],),
    "audio": (),
    "function_call": (),
    "refusal": (),
}


class TextPart(Body):
    type: Literal["text"]
    text: str


class CalledFunction(Body):
    """`arguments` is JSON as text, as the model wrote it."""

    name: str
    arguments: str


class ToolCall(Body):
    neutral = {"index": tuple(range(128))}  # noqa: RUF012 - declared so by Body

    id: str
    type: Literal["function"] | None = None
    function: CalledFunction


class Message(Body):
    """One turn. `content` null is an empty turn. `tool_calls` are the assistant's, and
    `tool_call_id` says which of them a `tool` answers."""

    neutral = NEUTRAL_IN_MESSAGE

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | ListOf[TextPart] | None = None
    name: str | None = None
    tool_calls: ListOf[ToolCall] | None = None
    tool_call_id: Annotated[str | None, Field(min_length=1)] = None
    reasoning_content: str | None = None
    reasoning: str | None = None
