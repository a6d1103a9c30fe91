"""Tools and reasoning over HTTP by OpenAI's client: a tiny model held to calls, and a scripted one
that thinks and calls as models do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.serve.calling import MESSAGES, TOOLS, check_call, saying
from tests.serve.commanded import sample_values


def test_a_named_tool_is_called(hermes_client: openai.OpenAI, hermes: Path) -> None:
    asked = {"model": str(hermes), "messages": MESSAGES, "tools": TOOLS, "max_tokens": 90}
    choice = {"type": "function", "function": {"name": "put"}}
    answer = hermes_client.chat.completions.create(**asked, tool_choice=choice).choices[0]
    assert answer.finish_reason == "tool_calls"
    assert answer.message.content is None
    (call,) = answer.message.tool_calls or []
    assert call.function.name == "put"
    check_call("put", call.function.arguments)


def test_a_required_call_streamed_is_the_same(hermes_client: openai.OpenAI, hermes: Path) -> None:
    asked = {"model": str(hermes), "messages": MESSAGES, "tools": TOOLS, "max_tokens": 90}
    asked |= {"tool_choice": "required", "seed": 3, "parallel_tool_calls": False}
    (whole,) = hermes_client.chat.completions.create(**asked).choices[0].message.tool_calls
    with hermes_client.chat.completions.create(**asked, stream=True) as events:
        chunks = [event.choices[0] for event in events]
    pieces = [piece for chunk in chunks for piece in chunk.delta.tool_calls or []]
    assert all(piece.index == 0 for piece in pieces)
    assert pieces[0].id
    assert (pieces[0].type, pieces[0].function.name) == ("function", whole.function.name)
    assert not any(piece.id or piece.function.name for piece in pieces[1:])
    arguments = "".join(piece.function.arguments or "" for piece in pieces)
    assert arguments == whole.function.arguments
    check_call(whole.function.name, arguments)
    assert chunks[-1].finish_reason == "tool_calls"
    assert not any(chunk.delta.content for chunk in chunks)


def test_strict_tools_hold_a_free_answer(hermes_client: openai.OpenAI, hermes: Path) -> None:
    strict = [{**one, "function": {**one["function"], "strict": True}} for one in TOOLS]
    answer = hermes_client.chat.completions.create(
        model=str(hermes), messages=MESSAGES, tools=strict, max_tokens=30, seed=1
    ).choices[0]
    for call in answer.message.tool_calls or []:
        check_call(call.function.name, call.function.arguments)


def test_calls_and_their_results_go_back_in(hermes_client: openai.OpenAI, hermes: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "get", "arguments": '{"a": 1}'}}
    turns = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "rain"},
    ]
    url = str(hermes_client.base_url).removesuffix("/v1/")
    with httpx.Client(base_url=url) as http:
        ids = http.post("/tokenize", json={"messages": turns, "tools": TOOLS}).json()["tokens"]
        prompt = http.post("/detokenize", json={"tokens": ids}).json()["prompt"]
    assert '<tool_call>{"a": 1}</tool_call>' in prompt
    assert '"name": "put"' in prompt
    assert "tool\nrain" in prompt


def test_messages_use_tools_too(hermes_client: openai.OpenAI) -> None:
    url = str(hermes_client.base_url).removesuffix("/v1/")
    tools = [
        {"name": one["function"]["name"], "input_schema": one["function"]["parameters"]}
        for one in TOOLS
    ]
    body = {"messages": MESSAGES, "tools": tools, "max_tokens": 90, "tool_choice": {"type": "any"}}
    body["tool_choice"]["disable_parallel_tool_use"] = True  # type: ignore[index]
    with httpx.Client(base_url=url) as http:
        answer = http.post("/v1/messages", json=body).json()
        assert answer["stop_reason"] == "tool_use"
        (use,) = answer["content"]
        check_call(use["name"], json.dumps(use["input"]))
        result = {"type": "tool_result", "tool_use_id": use["id"], "content": "ok"}
        turns = [
            *MESSAGES,
            {"role": "assistant", "content": answer["content"]},
            {"role": "user", "content": [result, {"type": "text", "text": "so?"}]},
        ]
        again = http.post(
            "/v1/messages", json={**body, "tools": tools[:1], "messages": turns, "stream": True}
        ).text
    assert '"tool_use"' in again
    assert "input_json_delta" in again


ASKED: dict[str, Any] = {"model": "scripted", "messages": MESSAGES, "max_tokens": 1000}
CALL = '{"name": "get", "arguments": {"city": "Rome"}}'


def streamed(client: openai.OpenAI, **fields: Any) -> tuple[str, str, list[Any]]:
    """Content, reasoning, and finished calls."""
    content = reasoning = ""
    calls: list[Any] = []
    for event in client.chat.completions.create(**ASKED, stream=True, **fields):
        delta = event.choices[0].delta
        content += delta.content or ""
        reasoning += getattr(delta, "reasoning_content", None) or ""
        for piece in delta.tool_calls or []:
            if piece.id:
                calls.append([piece.function.name, ""])
            calls[piece.index][1] += piece.function.arguments
    return content, reasoning, calls


def test_thoughts_text_and_calls_are_told_apart() -> None:
    text = f"<think>\nhm </think>\n\nLet me see.\n<tool_call>{CALL}</tool_call>\n" * 1
    text += f"<tool_call>{CALL}</tool_call>"
    with saying(text) as client:
        answer = client.chat.completions.create(**ASKED, tools=TOOLS).choices[0]
        message = answer.message
        assert answer.finish_reason == "tool_calls"
        assert message.content == "Let me see."
        assert message.reasoning_content == message.reasoning == "hm"  # type: ignore[attr-defined]
        calls = [[one.function.name, one.function.arguments] for one in message.tool_calls or []]
        assert calls == [["get", '{"city": "Rome"}']] * 2
        assert streamed(client, tools=TOOLS) == ("Let me see.", "hm", calls)
        hidden = {"include_reasoning": False}
        assert streamed(client, tools=TOOLS, extra_body=hidden) == ("Let me see.", "", calls)
        content, _, none = streamed(client, tools=TOOLS, tool_choice="none")
        assert (none, "<tool_call>" in content) == ([], True)


def test_answers_read_for_calls_are_counted() -> None:
    plain: dict[str, Any] = {"input": "hi", "tools": [], "stream": False}
    tool = {"type": "function", **TOOLS[0]["function"]}
    with saying(f"<tool_call>{CALL}</tool_call>") as client:
        streamed(client, tools=TOOLS)
        client.chat.completions.create(**ASKED, tools=TOOLS, n=2)
        client.chat.completions.create(**ASKED)  # offers none: nothing is read
        client.responses.create(model="scripted", **{**plain, "tools": [tool]})
        scrape = httpx.get(str(client.base_url.join("/metrics"))).text
    name = "vllm:tool_call_parser_invocations_total"
    counts = {
        kind.removeprefix(name).strip(): count
        for kind, count in sample_values(scrape).items()
        if kind.startswith(name) and count
    }
    assert counts == {
        "streaming tool_call chat_completions": 1,
        "non_streaming tool_call chat_completions": 2,
        "non_streaming tool_call responses": 1,
    }


def test_a_model_that_always_reasons() -> None:
    with saying("hm</think>Yes.", reasoning_parser="deepseek_r1") as client:
        assert streamed(client) == ("Yes.", "hm", [])
        message = client.chat.completions.create(**ASKED).choices[0].message
        assert message.content == "Yes."


def test_the_parser_is_chosen() -> None:
    with saying(f"[TOOL_CALLS][{CALL}]", tool_call_parser="mistral") as client:
        assert streamed(client, tools=TOOLS) == ("", "", [["get", '{"city": "Rome"}']])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOLS[0], TOOLS[0]]}, "tools"),
        ({"tools": TOOLS, "tool_choice": "some"}, "tool_choice"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice",
        ),
        ({"tools": TOOLS, "response_format": {"type": "json_object"}}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"thinking_token_budget": 9}, "thinking_token_budget"),
    ],
    ids=str,
)
def test_refusals(fields: dict[str, Any], param: str) -> None:
    with saying("a") as client, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**ASKED, extra_body=fields)
    assert caught.value.param == param


def test_a_model_without_tools_says_so(hermes_client: openai.OpenAI, model: Path, url: str) -> None:
    body = {"messages": MESSAGES, "tools": TOOLS, "max_tokens": 1}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools")
