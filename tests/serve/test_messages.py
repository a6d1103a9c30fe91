"""Anthropic's messages: the same answers as a chat's, in other words."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.serve.scripted import ScriptedEngine, scripted_app, serving
from vivace.serve.options import ServeOptions

TURN = {"role": "user", "content": "hello"}


def ask(client: httpx.Client, **fields: Any) -> httpx.Response:
    return client.post("/v1/messages", json={"messages": [TURN], "max_tokens": 3, **fields})


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    parts = [part.split("\n") for part in text.removesuffix("\n\n").split("\n\n")]
    return [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for name, data in parts
    ]


def test_a_message(client: httpx.Client, engine: ScriptedEngine) -> None:
    blocks = [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}]
    answer = ask(client, system=blocks, metadata={"user_id": "me"}, top_k=4).json()
    assert answer["id"].startswith("msg_")
    assert (answer["type"], answer["role"], answer["model"]) == ("message", "assistant", "scripted")
    assert answer["content"] == [{"type": "text", "text": "one two three "}]
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("max_tokens", None)
    (request,) = engine.seen
    assert (request.tenant, request.params.top_k) == ("me", 4)
    prompt = bytes(request.prompt_token_ids).decode()
    assert prompt.endswith("user: hello\nassistant: ")
    assert "be brief" in prompt
    assert answer["usage"] == {
        "input_tokens": len(request.prompt_token_ids) - 4,
        "cache_read_input_tokens": 4,
        "cache_creation_input_tokens": 0,
        "output_tokens": 3,
    }


def test_a_streamed_message(client: httpx.Client) -> None:
    answer = ask(client, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    names, data = zip(*events(answer.text), strict=True)
    assert names == (
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    )
    assert all(one["type"] == name for name, one in zip(names, data, strict=True))
    assert data[0]["message"]["content"] == []
    assert "".join(one["delta"]["text"] for one in data[2:5]) == "one two three "
    assert data[6]["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert data[6]["usage"] == {"output_tokens": 3}


def test_the_answer_goes_on_with_the_assistants_turn(
    client: httpx.Client, engine: ScriptedEngine
) -> None:
    ask(client, messages=[TURN, {"role": "assistant", "content": "it is"}])
    assert bytes(engine.seen[0].prompt_token_ids).endswith(b"assistant: it is")


def test_a_failure_in_mid_stream_is_an_event(client: httpx.Client, engine: ScriptedEngine) -> None:
    engine.fails_after = 1
    *_, (name, data) = events(ask(client, stream=True).text)
    error = {"type": "api_error", "message": "It broke."}
    assert (name, data) == ("error", {"type": "error", "error": error})


REFUSED = [
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens must be at least 1"),
    ({"messages": [{"role": "system", "content": "a"}]}, "messages.0.role"),
    ({"tools": [{"name": "a"}]}, "tools.0.input_schema is required."),
    ({"stop_sequences": [""]}, "stop_sequences.0"),
    ({"temperature": "1"}, "temperature"),
    ({"logprobs": 1}, "logprobs is not"),
]


@pytest.mark.parametrize(("fields", "says"), REFUSED, ids=str)
def test_refusals_are_anthropics_errors(
    client: httpx.Client, fields: dict[str, Any], says: str
) -> None:
    answer = ask(client, **fields)
    body = answer.json()
    assert (answer.status_code, body["type"]) == (400, "error")
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["message"].startswith(says)


def test_keys_are_anthropics_too(engine: ScriptedEngine) -> None:
    with serving(scripted_app(engine, ServeOptions(api_key="k"))) as url:
        with httpx.Client(base_url=url, headers={"x-api-key": "k"}) as client:
            assert ask(client).status_code == 200
        with httpx.Client(base_url=url) as client:
            answer = ask(client)
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"


def test_tokens_are_counted_as_the_model_sees_them(client: httpx.Client) -> None:
    counted = client.post("/v1/messages/count_tokens", json={"messages": [TURN]}).json()
    assert counted == {"input_tokens": len("user: hello\nassistant: ")}


def test_the_real_engine_says_what_stopped_it(url: str) -> None:
    with httpx.Client(base_url=url, timeout=60) as client:
        whole = ask(client, max_tokens=24, temperature=0).json()
        text = whole["content"][0]["text"]
        stop = text[3:6]
        answer = ask(client, max_tokens=24, temperature=0, stop_sequences=[stop]).json()
        streamed = events(
            ask(client, max_tokens=24, temperature=0, stop_sequences=[stop], stream=True).text
        )
        counted = client.post("/v1/messages/count_tokens", json={"messages": [TURN]}).json()
    assert answer["content"][0]["text"] == text[: text.index(stop)]
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", stop)
    pieces = [data["delta"]["text"] for name, data in streamed if name == "content_block_delta"]
    assert "".join(pieces) == answer["content"][0]["text"]
    usage = whole["usage"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == counted["input_tokens"]
