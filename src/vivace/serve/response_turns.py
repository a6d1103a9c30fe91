"""From a call in the words of OpenAI's responses to the same in those of its chats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vivace.serve.response_schemas import (
    ChosenFunction,
    InputCall,
    InputCallOutput,
    InputItem,
    InputMessage,
    InputText,
    ResponsesBody,
    ResponseTool,
)
from vivace.serve.schemas import ChatBody, StandingBody
from vivace.serve.tool_schemas import Function, FunctionChoice, NamedTool, Tool, ToolChoice
from vivace.serve.turn_schemas import CalledFunction, Message, TextPart, ToolCall

_SAME_NAME = (
    *StandingBody.model_fields,
    "parallel_tool_calls",
    "prompt_cache_key",
    "stream",
    "temperature",
    "top_p",
)


def as_chat(body: ResponsesBody) -> ChatBody:
    """The same call in the words of chats."""
    given = body.input
    if isinstance(given, str):
        given = [InputMessage(role="user", content=given)]
    turns = list(_turns(given))
    if body.instructions is not None:
        turns.insert(0, Message(role="system", content=body.instructions))
    fields: dict[str, Any] = {name: getattr(body, name) for name in _SAME_NAME}
    return ChatBody(
        messages=turns,
        max_completion_tokens=body.max_output_tokens,
        tools=[_tool(tool) for tool in body.tools or []] or None,
        tool_choice=_choice(body.tool_choice),
        **fields,
    )


def _turns(items: list[InputItem]) -> Iterator[Message]:
    """Calls belong to what the assistant said before them."""
    said: InputMessage | None = None
    calls: list[ToolCall] = []
    for item in items:
        if isinstance(item, InputCall):
            calls.append(_call(item))
            continue
        yield from _assistant(said, calls)
        said, calls = None, []
        if isinstance(item, InputCallOutput):
            yield Message(role="tool", tool_call_id=item.call_id, content=_content(item.output))
        elif item.role == "assistant":
            said = item
        else:
            yield Message(role=item.role, content=_content(item.content))
    yield from _assistant(said, calls)


def _assistant(said: InputMessage | None, calls: list[ToolCall]) -> Iterator[Message]:
    if said is not None or calls:
        content = None if said is None else _content(said.content)
        yield Message(role="assistant", content=content, tool_calls=calls or None)


def _call(item: InputCall) -> ToolCall:
    function = CalledFunction(name=item.name, arguments=item.arguments)
    return ToolCall(id=item.call_id, type="function", function=function)


def _tool(tool: ResponseTool) -> Tool:
    return Tool(type="function", function=Function(**tool.model_dump(exclude={"type"})))


def _choice(given: str | ChosenFunction | None) -> ToolChoice | None:
    if isinstance(given, ChosenFunction):
        return NamedTool(type="function", function=FunctionChoice(name=given.name))
    return given  # type: ignore[return-value]


def _content(given: str | list[InputText]) -> str | list[TextPart]:
    if isinstance(given, str):
        return given
    return [TextPart(type="text", text=part.text) for part in given]
