"""From a call in the words of Anthropic's clients to the same in OpenAI's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from vivace.core.errors import RequestError
from vivace.serve.message_schemas import (
    ConversationBody,
    MessagesBody,
    MessageToolChoice,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    Turn,
)
from vivace.serve.schemas import ChatBody, StandingBody
from vivace.serve.tool_schemas import Function, FunctionChoice, NamedTool, Tool, ToolChoice
from vivace.serve.turn_schemas import CalledFunction, Message, TextPart, ToolCall

_STANDING = tuple(StandingBody.model_fields)
_CHOICES: dict[str, ToolChoice] = {"auto": "auto", "any": "required", "none": "none"}


def as_chat(body: ConversationBody) -> ChatBody:
    """The same call in OpenAI's words. The answer goes on with a last turn of the assistant's.

    Raises:
        RequestError: a tool is to be called that has no name.
    """
    turns = [message for turn in body.messages for message in _messages(turn)]
    system = [] if body.system is None else [Message(role="system", content=_content(body.system))]
    fields: dict[str, Any] = {name: getattr(body, name) for name in _STANDING} | _tools(body)
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
    continues = body.messages[-1].role == "assistant"
    return ChatBody(messages=[*system, *turns], continue_final_message=continues, **fields)


def _messages(turn: Turn) -> Iterator[Message]:
    """A turn's results of tools are messages of their own, before what else it says."""
    if isinstance(turn.content, str):
        yield Message(role=turn.role, content=turn.content)
        return
    texts = [block for block in turn.content if isinstance(block, TextBlock)]
    uses = [block for block in turn.content if isinstance(block, ToolUseBlock)]
    results = [block for block in turn.content if isinstance(block, ToolResultBlock)]
    for result in results:
        content = _content(result.content or "")
        yield Message(role="tool", tool_call_id=result.tool_use_id, content=content)
    if texts or uses or not results:
        calls = [_call(use) for use in uses] or None
        yield Message(role=turn.role, content=_content(texts), tool_calls=calls)


def _call(use: ToolUseBlock) -> ToolCall:
    function = CalledFunction(name=use.name, arguments=json.dumps(use.input))
    return ToolCall(id=use.id, type="function", function=function)


def _tools(body: ConversationBody) -> dict[str, Any]:
    tools = [
        Tool(
            type="function",
            function=Function(
                name=tool.name,
                description=tool.description,
                parameters=tool.input_schema,
                strict=tool.strict,
            ),
        )
        for tool in body.tools or []
    ]
    given: dict[str, Any] = {"tools": tools or None}
    if body.tool_choice is not None:
        given["tool_choice"] = _choice(body.tool_choice)
        given["parallel_tool_calls"] = not body.tool_choice.disable_parallel_tool_use
    return given


def _choice(given: MessageToolChoice) -> ToolChoice:
    if given.type != "tool":
        return _CHOICES[given.type]
    if given.name is None:
        raise RequestError("tool_choice of the type tool needs a name.", "tool_choice")
    return NamedTool(type="function", function=FunctionChoice(name=given.name))


def _content(given: str | Sequence[TextBlock]) -> str | list[TextPart]:
    if isinstance(given, str):
        return given
    return [TextPart(type="text", text=block.text) for block in given]
