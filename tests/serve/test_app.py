"""The endpoints over real HTTP, on an engine that says what the test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from tests.serve.scripted import (
    FIRST_WORD,
    ByteTokenizer,
    RoleTemplate,
    ScriptedEngine,
    scripted_app,
    serving,
)
from vivace.core.request import Delta, Request
from vivace.core.sampling import SamplingParams
from vivace.core.sight import ALL, Sight
from vivace.core.stats import EngineStats
from vivace.serve.app import create_app
from vivace.serve.options import ServeOptions


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(default_params=SamplingParams(temperature=0.6))


def complete(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/completions", json={"prompt": "hello", **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def chat(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "hello"}]
    answer = client.post("/v1/chat/completions", json={"messages": messages, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def stream(client: httpx.Client, path: str, **fields: Any) -> list[dict[str, Any]]:
    """Every event but the [DONE] that must come last."""
    answer = client.post(path, json={"stream": True, **fields})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert all(event.startswith("data: ") for event in events)
    return [json.loads(event.removeprefix("data: ")) for event in events]


def test_a_completion(client: httpx.Client, engine: ScriptedEngine) -> None:
    answer = complete(client, max_tokens=3)
    assert answer["object"] == "text_completion"
    assert answer["model"] == "scripted"
    assert answer["choices"] == [
        {
            "index": 0,
            "text": "one two three ",
            "logprobs": None,
            "finish_reason": "length",
            "stop_reason": None,
        }
    ]
    assert answer["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 3,
        "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    (request,) = engine.seen
    assert request.prompt_token_ids == tuple(b"hello")
    assert request.params.temperature == 0.6


def test_a_chat(client: httpx.Client, engine: ScriptedEngine) -> None:
    parts = [{"type": "text", "text": "a"}]
    messages = [{"role": "system", "content": "b"}, {"role": "user", "content": parts}]
    answer = chat(client, messages=messages, max_completion_tokens=2)
    assert answer["object"] == "chat.completion"
    message = {"role": "assistant", "content": "one two ", "refusal": None}
    assert answer["choices"][0]["message"] == message
    sent = "system: b\nuser: [{'type': 'text', 'text': 'a'}]\nassistant: "
    assert bytes(engine.seen[0].prompt_token_ids).decode() == sent


def test_a_chat_without_a_limit_may_fill_the_context(
    client: httpx.Client, engine: ScriptedEngine
) -> None:
    chat(client, ignore_eos=True)
    (request,) = engine.seen
    assert request.params.max_tokens == 1024 - len(request.prompt_token_ids)


PROMPTS = [
    ("ab", [b"ab"]),
    ([97, 98], [b"ab"]),
    (["ab", "c"], [b"ab", b"c"]),
    ([[97, 98], [99]], [b"ab", b"c"]),
]


@pytest.mark.parametrize(("prompt", "texts"), PROMPTS, ids=str)
def test_prompts_of_every_form(
    client: httpx.Client, engine: ScriptedEngine, prompt: Any, texts: list[bytes]
) -> None:
    answer = complete(client, prompt=prompt, n=2, max_tokens=1, seed=7)
    assert [choice["index"] for choice in answer["choices"]] == list(range(2 * len(texts)))
    assert answer["usage"]["prompt_tokens"] == sum(map(len, texts))
    assert answer["usage"]["completion_tokens"] == 2 * len(texts)
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == sum(map(len, texts))
    twice = [(text, index) for text in texts for index in (0, 1)]
    assert [(bytes(one.prompt_token_ids), one.index) for one in engine.seen] == twice
    assert len({request.request_id for request in engine.seen}) == len(twice)


def test_a_long_prompt_is_tokenized_off_the_loop(client: httpx.Client) -> None:
    answer = client.post("/v1/completions", json={"prompt": "x" * 100_000})
    assert answer.status_code == 400
    assert "100000 tokens" in answer.json()["error"]["message"]


def test_a_streamed_completion(client: httpx.Client) -> None:
    events = stream(client, "/v1/completions", prompt="a", max_tokens=6)
    choices = [event["choices"][0] for event in events]
    assert "".join(choice["text"] for choice in choices) == "one two three vier fünf one "
    assert [choice["finish_reason"] for choice in choices] == [None] * 5 + ["length"]
    assert all("usage" not in event for event in events)
    assert len({event["id"] for event in events}) == 1


def test_a_streamed_chat_names_its_role_once_per_choice(client: httpx.Client) -> None:
    events = stream(
        client,
        "/v1/chat/completions",
        messages=[{"role": "user", "content": "a"}],
        n=2,
        max_tokens=3,
        stream_options={"include_usage": True},
    )
    *chunks, last = events
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    for index in (0, 1):
        of_one = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
        roles = [choice["delta"].get("role") for choice in of_one]
        assert roles == ["assistant", None, None]
        assert "".join(choice["delta"]["content"] for choice in of_one) == "one two three "
        assert of_one[-1]["finish_reason"] == "length"
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 6


def test_legacy_logprobs_are_the_same_streamed_or_not(client: httpx.Client) -> None:
    whole = complete(client, max_tokens=3, logprobs=2)["choices"][0]["logprobs"]
    assert whole["tokens"] == ["one ", "two ", "three "]
    assert whole["text_offset"] == [0, 4, 8]
    assert whole["token_logprobs"] == [-0.25] * 3
    assert whole["top_logprobs"][1] == {"two ": -0.25, "\x02": -9999.0}
    parts = [
        event["choices"][0]["logprobs"]
        for event in stream(client, "/v1/completions", prompt="hello", max_tokens=3, logprobs=2)
    ]
    for name, values in whole.items():
        assert [value for part in parts for value in part[name]] == values


def test_chat_logprobs(client: httpx.Client) -> None:
    answer = chat(client, max_tokens=5, logprobs=True, top_logprobs=2)
    content = answer["choices"][0]["logprobs"]["content"]
    assert [entry["token"] for entry in content][-1] == "fünf "
    assert content[-1]["bytes"] == list("fünf ".encode())
    assert [one["logprob"] for one in content[0]["top_logprobs"]] == [-0.25, -9999.0]
    bare = chat(client, max_tokens=1, logprobs=True)["choices"][0]["logprobs"]["content"][0]
    assert bare["top_logprobs"] == []


def test_token_ids_are_returned_when_asked_for(client: httpx.Client) -> None:
    choice = complete(client, max_tokens=2, return_token_ids=True)["choices"][0]
    assert choice["token_ids"] == [FIRST_WORD, FIRST_WORD + 1]
    assert choice["prompt_token_ids"] == list(b"hello")
    events = stream(client, "/v1/completions", prompt="a", max_tokens=2, return_token_ids=True)
    assert [event["choices"][0]["token_ids"] for event in events] == [[256], [257]]
    assert events[0]["choices"][0]["prompt_token_ids"] == [97]
    assert "prompt_token_ids" not in events[1]["choices"][0]


def test_priority_and_cache_salt_reach_the_engine(
    client: httpx.Client, engine: ScriptedEngine
) -> None:
    complete(client, priority=-3, cache_salt="me")
    assert (engine.seen[0].priority, engine.seen[0].cache_salt) == (-3, "me")


def test_a_request_chooses_what_it_keeps(client: httpx.Client, engine: ScriptedEngine) -> None:
    complete(client, kv_eviction="sinks:100:8")
    complete(client)
    assert [request.sight for request in engine.seen] == [Sight(100, 8), ALL]
    answer = client.post("/v1/completions", json={"prompt": "x", "kv_eviction": "h2o"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "kv_eviction"


def test_models(client: httpx.Client) -> None:
    (card,) = client.get("/v1/models").json()["data"]
    assert (card["id"], card["object"], card["max_model_len"]) == ("scripted", "model", 1024)
    assert (card["dtype"], card["quantization"]) == ("float32", "int8")
    assert client.get("/v1/models/scripted").json() == card
    for answer in (
        client.get("/v1/models/other/model"),
        client.post("/v1/completions", json={"prompt": "a", "model": "other"}),
    ):
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "model_not_found"
        assert answer.json()["error"]["param"] == "model"


def test_what_is_not_there_gets_an_error_object_too(client: httpx.Client) -> None:
    missing = client.get("/v1/nothing")
    assert (missing.status_code, missing.json()["error"]["message"]) == (404, "Not Found.")
    wrong = client.get("/v1/completions")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert wrong.json()["error"]["type"] == "invalid_request_error"


def test_version_and_health(client: httpx.Client, engine: ScriptedEngine) -> None:
    assert set(client.get("/version").json()) == {"version"}
    assert client.get("/health").status_code == 200
    engine.gone = "The engine died."
    assert client.get("/health").status_code == 503
    answer = client.post("/v1/completions", json={"prompt": "a", "stream": True})
    assert answer.status_code == 503
    assert answer.json()["error"] == {
        "message": "The engine died.",
        "type": "service_unavailable_error",
        "param": None,
        "code": "engine_unavailable",
    }
    assert "vllm:request_success_total" in client.get("/metrics").text
    assert "vllm:num_requests_running" not in client.get("/metrics").text


def test_a_silent_engine_does_not_hold_up_the_metrics(
    client: httpx.Client, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent() -> EngineStats:
        await asyncio.sleep(3600)
        raise AssertionError

    monkeypatch.setattr(engine, "stats", silent)
    monkeypatch.setattr("vivace.serve.endpoints.operations.STATS_SECONDS", 0.01)
    assert "vllm:request_success_total" in client.get("/metrics").text


@pytest.mark.parametrize("n", [1, 3])
def test_an_engine_failure_is_a_500_and_ends_the_other_choices(
    client: httpx.Client, engine: ScriptedEngine, n: int
) -> None:
    engine.fails_after = 2
    answer = client.post("/v1/completions", json={"prompt": "a", "n": n})
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "It broke."
    engine.fails_after = 0
    assert client.post("/v1/completions", json={"prompt": "a", "stream": True}).status_code == 500
    assert not engine.running


def test_a_failure_in_mid_stream_is_the_last_event(
    client: httpx.Client, engine: ScriptedEngine
) -> None:
    engine.fails_after = 2
    events = stream(client, "/v1/completions", prompt="a")
    assert [event["choices"][0]["text"] for event in events[:2]] == ["one ", "two "]
    assert events[2]["error"]["message"] == "It broke."
    assert len(events) == 3


def test_an_unexpected_failure_in_mid_stream_is_logged(
    client: httpx.Client,
    engine: ScriptedEngine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain = engine.stream

    async def trips(request: Request) -> AsyncGenerator[Delta, None]:
        async for delta in plain(request):
            yield delta
            raise ZeroDivisionError("a secret")

    monkeypatch.setattr(engine, "stream", trips)
    first, last = stream(client, "/v1/completions", prompt="a")
    assert first["choices"][0]["text"] == "one "
    assert "secret" not in last["error"]["message"]
    assert [record.name for record in caplog.records] == ["vivace"]
    assert "a secret" in caplog.text


def test_too_many_choices_are_refused(client: httpx.Client) -> None:
    answer = client.post("/v1/completions", json={"prompt": ["a"] * 1025})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "prompt"


def test_an_unexpected_failure_tells_the_client_nothing_inside(engine: ScriptedEngine) -> None:
    class Broken(RoleTemplate):
        def render(self, *args: Any, **kwargs: Any) -> str:
            raise ZeroDivisionError("a secret")

    app = create_app(engine, None, Broken())
    with serving(app) as url, httpx.Client(base_url=url) as client:
        text = client.post("/v1/completions", json={"prompt": "a"})
        assert (text.status_code, text.json()["error"]["param"]) == (400, "prompt")
        ids = client.post("/v1/completions", json={"prompt": [1], "max_tokens": 1})
        assert ids.status_code == 200
    with serving(scripted_app(engine)) as url, httpx.Client(base_url=url) as client:
        engine.stream = None  # type: ignore[assignment]
        answer = client.post("/v1/completions", json={"prompt": "a"})
        assert answer.status_code == 500
        assert "NoneType" not in answer.text


def test_template_options(engine: ScriptedEngine) -> None:
    template = RoleTemplate()
    app = create_app(engine, ByteTokenizer(), template)
    with serving(app) as url, httpx.Client(base_url=url) as client:
        chat(client, max_tokens=1, chat_template_kwargs={"thinks": False})
        assert template.options == {"thinks": False}
        body = {"messages": [{"role": "user", "content": "a"}]}
        kwargs = {"chat_template_kwargs": {"messages": []}}
        refused = client.post("/v1/chat/completions", json={**body, **kwargs})
        assert refused.json()["error"]["param"] == "chat_template_kwargs"


def test_a_key_guards_the_api_and_not_its_health(engine: ScriptedEngine) -> None:
    app = scripted_app(engine, ServeOptions(served_model_name="known", api_key="sésame"))
    with serving(app) as url, httpx.Client(base_url=url) as client:
        assert client.get("/health").status_code == 200
        for key in ({}, {"authorization": "Bearer no"}, {"authorization": "sésame".encode()}):
            answer = client.get("/v1/models", headers=key)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
        right = {"authorization": "Bearer sésame".encode()}
        assert client.get("/v1/models", headers=right).json()["data"][0]["id"] == "known"
