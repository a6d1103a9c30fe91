"""What a call may ask for beside sampling, on an engine that says what the test wants."""

from __future__ import annotations

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
    wait_until,
)
from tests.serve.test_app import chat, complete, stream
from vivace.core.request import Delta, Logprob, Request
from vivace.serve.app import create_app

TURN = {"role": "user", "content": "hello"}


class GradedEngine(ScriptedEngine):
    """The choice at index i is as likely as the i-th grade."""

    GRADES = (-3.0, -1.0, -2.0, -0.5)

    @staticmethod
    def _delta(request: Request, place: int) -> Delta:
        token = FIRST_WORD + request.index
        entry = {token: Logprob(GradedEngine.GRADES[request.index], 1, str(request.index))}
        return Delta(
            request.request_id,
            token_ids=(token,),
            text=str(request.index),
            logprobs=None if request.params.logprobs is None else (entry,),
            finish_reason="length" if place + 1 == request.params.max_tokens else None,
        )


def test_the_best_of_several_are_shown_best_first() -> None:
    with serving(scripted_app(GradedEngine())) as url, httpx.Client(base_url=url) as client:
        answer = complete(client, prompt=["a", "b"], n=2, best_of=4, max_tokens=2)
        scored = complete(client, n=1, best_of=3, max_tokens=1, logprobs=0, echo=True)
    assert [choice["text"] for choice in answer["choices"]] == ["33", "11"] * 2
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert all(choice["logprobs"] is None for choice in answer["choices"])
    assert answer["usage"]["completion_tokens"] == 2 * 4 * 2
    (choice,) = scored["choices"]
    assert choice["text"] == "hello1"
    assert choice["logprobs"]["token_logprobs"][-2:] == [-111.0, -1.0]


def test_the_callers_name_is_in_the_answer(client: httpx.Client) -> None:
    by_header = client.post(
        "/v1/completions", json={"prompt": "a"}, headers={"X-Request-Id": "mine/1"}
    )
    assert by_header.json()["id"] == "cmpl-mine/1"
    assert by_header.headers["x-request-id"] == "mine/1"
    by_body = client.post("/v1/completions", json={"prompt": "a", "request_id": "other"})
    assert by_body.json()["id"] == "cmpl-other"
    assert by_body.headers["x-request-id"] == "other"
    unnamed = client.post("/v1/chat/completions", json={"messages": [TURN]})
    assert unnamed.json()["id"] == "chatcmpl-" + unnamed.headers["x-request-id"]
    assert client.get("/nothing").headers["x-request-id"]


@pytest.mark.parametrize(
    ("header", "fields"), [("a b", {}), ("x" * 129, {}), ("mine", {"request_id": "other"})]
)
def test_a_name_that_cannot_be_is_refused(
    client: httpx.Client, header: str, fields: dict[str, Any]
) -> None:
    answer = client.post(
        "/v1/completions", json={"prompt": "a", **fields}, headers={"X-Request-Id": header}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "request_id"


def test_a_name_in_use_is_refused_and_harms_nobody(
    client: httpx.Client, engine: ScriptedEngine
) -> None:
    engine.seconds = 0.01
    body = {"prompt": "a", "max_tokens": 100, "stream": True, "request_id": "mine"}
    with client.stream("POST", "/v1/completions", json=body) as first:
        wait_until(lambda: bool(engine.running))
        second = client.post("/v1/completions", json=body)
        events = first.read().decode().count("data: ")
    assert (second.status_code, second.json()["error"]["param"]) == (400, "request_id")
    assert events == 100 + 1
    assert complete(client, max_tokens=1, request_id="mine")["id"] == "cmpl-mine"


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_usage_in_every_chunk(client: httpx.Client, path: str) -> None:
    wanted = {"include_usage": True, "continuous_usage_stats": True}
    body: dict[str, Any] = {"messages": [TURN]} if "chat" in path else {"prompt": "hello"}
    events = stream(client, path, **body, max_tokens=3, stream_options=wanted)
    assert [event["usage"]["completion_tokens"] for event in events] == [1, 2, 3, 3]
    assert {event["usage"]["prompt_tokens_details"]["cached_tokens"] for event in events} == {4}
    assert events[-1]["choices"] == []


def test_tokens_may_be_named_by_their_ids(client: httpx.Client) -> None:
    asked = {"max_tokens": 2, "return_tokens_as_token_ids": True}
    legacy = complete(client, prompt="ab", **asked, logprobs=2, echo=True)["choices"][0]["logprobs"]
    ids = ["token_id:97", "token_id:98", "token_id:256", "token_id:257"]
    assert legacy["tokens"] == ids
    assert legacy["text_offset"] == [0, 1, 2, 6]
    assert list(legacy["top_logprobs"][2]) == ["token_id:256", "token_id:2"]
    content = chat(client, **asked, logprobs=True, top_logprobs=1)["choices"][0]["logprobs"]
    assert [entry["token"] for entry in content["content"]] == ids[2:]
    assert content["content"][0]["top_logprobs"][0]["token"] == "token_id:256"
    assert content["content"][0]["bytes"] == list(b"one ")


TRUNCATED = [(3, 1, b"llo"), (100, 1, b"hello"), (-1, 1022, b"lo"), (-1, 1, b"hello")]


@pytest.mark.parametrize(("limit", "max_tokens", "kept"), TRUNCATED)
def test_the_end_of_a_long_prompt_may_be_kept(
    client: httpx.Client, engine: ScriptedEngine, limit: int, max_tokens: int, kept: bytes
) -> None:
    answer = complete(client, truncate_prompt_tokens=limit, max_tokens=max_tokens, echo=True)
    assert bytes(engine.seen[0].prompt_token_ids) == kept
    assert answer["usage"]["prompt_tokens"] == len(kept)
    assert answer["choices"][0]["text"].startswith(f"{kept.decode()}one")


@pytest.mark.parametrize("limit", [0, -2])
def test_no_prompt_is_truncated_to_nothing(client: httpx.Client, limit: int) -> None:
    body = {"prompt": "a", "truncate_prompt_tokens": limit}
    answer = client.post("/v1/completions", json=body)
    assert answer.json()["error"]["param"] == "truncate_prompt_tokens"


def test_an_answer_may_be_begun(client: httpx.Client, engine: ScriptedEngine) -> None:
    turns = [TURN, {"role": "assistant", "content": "it is "}]
    chat(client, messages=turns, continue_final_message=True, max_tokens=1)
    sent = bytes(engine.seen[0].prompt_token_ids).decode()
    assert sent == "user: hello\nassistant: it is "
    body = {"messages": turns, "continue_final_message": True}
    for wrong in (
        {**body, "add_generation_prompt": True},
        {**body, "messages": [{"role": "assistant", "content": " "}]},
        {**body, "messages": [{"role": "assistant", "content": []}]},
    ):
        answer = client.post("/v1/chat/completions", json=wrong)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == "continue_final_message"


def test_documents_reach_the_template() -> None:
    template = RoleTemplate()
    app = create_app(ScriptedEngine(), ByteTokenizer(), template)
    with serving(app) as url, httpx.Client(base_url=url) as client:
        chat(client, max_tokens=1, documents=[{"text": "a"}])
    assert template.options == {"documents": [{"text": "a"}]}


def test_special_tokens_are_added_or_not_as_asked() -> None:
    asked: list[bool] = []

    class Asked(ByteTokenizer):
        def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
            asked.append(add_special_tokens)
            return super().encode(text)

    app = create_app(ScriptedEngine(), Asked(), RoleTemplate())
    with serving(app) as url, httpx.Client(base_url=url) as client:
        for choice in ({}, {"add_special_tokens": True}, {"add_special_tokens": False}):
            complete(client, max_tokens=1, **choice)
            chat(client, max_tokens=1, **choice)
    assert asked == [True, False, True, True, False, False]


def test_a_conversation_that_is_too_long_is_the_messages_fault(client: httpx.Client) -> None:
    turns = [{"role": "user", "content": "x" * 2000}]
    answer = client.post("/v1/chat/completions", json={"messages": turns})
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == ("messages", "context_length_exceeded")
