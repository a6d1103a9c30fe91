"""Functions in OpenAI's responses, by its client: the same calls as a chat's, in other words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.serve.calling import TOOLS, check_call, saying

FUNCTIONS: Any = [{"type": "function", **one["function"]} for one in TOOLS]
CALL = '<tool_call>{"name": "get", "arguments": {"city": "Rome"}}</tool_call>'
ASKED: dict[str, Any] = {"model": "scripted", "input": "hi", "tools": FUNCTIONS}


@pytest.mark.parametrize(
    ("choice", "names"),
    [("required", {"get", "put"}), ({"type": "function", "name": "put"}, {"put"})],
    ids=["required", "named"],
)
def test_a_model_is_held_to_a_call(
    hermes_client: openai.OpenAI, hermes: Path, choice: Any, names: set[str]
) -> None:
    answer = hermes_client.responses.create(
        model=str(hermes),
        input="hi",
        tools=FUNCTIONS,
        tool_choice=choice,
        parallel_tool_calls=False,
        max_output_tokens=90,
    )
    (call,) = answer.output
    assert call.type == "function_call"
    assert (answer.status, call.status) == ("completed", "completed")
    assert call.name in names
    check_call(call.name, call.arguments)
    told = answer.tool_choice
    assert (told if isinstance(told, str) else told.model_dump()) == choice
    assert [tool.name for tool in answer.tools] == ["get", "put"]  # type: ignore[union-attr]


def test_calls_and_their_outputs_go_back_in(hermes_client: openai.OpenAI, hermes: Path) -> None:
    """The prompt is that of the chat which says the same."""
    call = {"type": "function_call", "call_id": "1", "name": "get", "arguments": '{"city": "Oslo"}'}
    output = {"type": "function_call_output", "call_id": "1", "output": "rain"}
    said = {"role": "assistant", "content": "Let me see."}
    items: Any = [{"role": "user", "content": "hi"}, said, call, output]
    function = {"name": "get", "arguments": call["arguments"]}
    turns: Any = [
        {"role": "user", "content": "hi"},
        {**said, "tool_calls": [{"id": "1", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "1", "content": "rain"},
    ]
    asked: Any = {"model": str(hermes), "temperature": 0}
    response = hermes_client.responses.create(
        **asked, input=items, tools=FUNCTIONS, max_output_tokens=16
    )
    asked |= {"messages": turns, "tools": TOOLS, "max_tokens": 16}
    chat = hermes_client.chat.completions.create(**asked)
    assert response.usage is not None
    assert chat.usage is not None
    assert response.usage.input_tokens == chat.usage.prompt_tokens
    assert response.output_text == chat.choices[0].message.content


def test_text_and_calls_are_items_of_their_own() -> None:
    with saying(f"<think>hm</think>Let me see.\n{CALL}\n{CALL}") as client:
        whole = client.responses.create(**ASKED)
        events: list[Any] = list(client.responses.create(**ASKED, stream=True))
    assert [item.type for item in whole.output] == ["message", "function_call", "function_call"]
    assert whole.output_text == "Let me see."
    names, arguments = zip(*[(one.name, one.arguments) for one in whole.output[1:]], strict=True)
    assert (names, arguments) == (("get", "get"), ('{"city": "Rome"}',) * 2)
    assert len({item.id for item in whole.output}) == 3
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert steps_of(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        *["output_item.added", "function_call_arguments.delta"],
        *["function_call_arguments.done", "output_item.done"],
        *["output_item.added", "function_call_arguments.delta"],
        *["function_call_arguments.done", "output_item.done"],
        "completed",
    ]
    final = events[-1].response.output
    assert [without_names(item) for item in final] == [without_names(one) for one in whole.output]
    done = [event.item for event in events if event.type == "response.output_item.done"]
    assert done == final
    for place, item in enumerate(final):
        pieces = [event for event in events if getattr(event, "item_id", None) == item.id]
        assert {event.output_index for event in pieces} == {place}
        text = "".join(event.delta for event in pieces if event.type.endswith(".delta"))
        assert text == (item.arguments if item.type == "function_call" else whole.output_text)


def steps_of(events: list[Any]) -> list[str]:
    """The kinds of events, a run of one kind once."""
    kinds = [event.type.removeprefix("response.") for event in events]
    return [kind for place, kind in enumerate(kinds) if place == 0 or kinds[place - 1] != kind]


def without_names(item: Any) -> dict[str, Any]:
    fields: dict[str, Any] = item.model_dump()
    return {key: value for key, value in fields.items() if key not in ("id", "call_id")}


REFUSED = [
    ({"tools": [{"type": "web_search"}]}, "tools"),
    ({"tools": [{"type": "function", "name": "a b"}]}, "tools"),
    ({"tools": [FUNCTIONS[0], FUNCTIONS[0]]}, "tools"),
    ({"tool_choice": {"type": "function", "name": "other"}}, "tool_choice"),
    ({"tool_choice": {"type": "allowed_tools", "tools": []}}, "tool_choice"),
    ({"input": [{"type": "function_call", "call_id": "1", "name": "get"}]}, "input"),
    (
        {"input": [{"type": "function_call", "call_id": "1", "name": "get", "arguments": "{"}]},
        "input",
    ),
    ({"input": [{"type": "item_reference", "id": "fc_1"}]}, "input"),
    ({"max_tool_calls": 1}, "max_tool_calls"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=[str(case)[:50] for case in REFUSED])
def test_what_is_not_supported_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with saying("a") as client:
        answer = httpx.post(f"{client.base_url}responses", json={**ASKED, **fields})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
