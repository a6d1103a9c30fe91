"""OpenAI's responses by its own client: the same answers as a chat's, in other words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.serve.scripted import ScriptedEngine, scripted_app, serving


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def scripted(engine: ScriptedEngine) -> Iterator[openai.OpenAI]:
    with (
        serving(scripted_app(engine)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def test_an_answer_is_that_of_a_chat(client: openai.OpenAI, model: Path) -> None:
    asked: dict[str, Any] = {"model": str(model), "temperature": 0}
    response = client.responses.create(
        **asked, input="hi", instructions="be brief", max_output_tokens=12
    )
    turns: Any = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    chat = client.chat.completions.create(**asked, messages=turns, max_tokens=12)
    assert response.output_text == chat.choices[0].message.content
    assert response.id.startswith("resp_")
    assert (response.instructions, response.max_output_tokens) == ("be brief", 12)
    assert response.usage is not None
    assert chat.usage is not None
    assert response.usage.total_tokens == chat.usage.total_tokens


def test_a_conversation_goes_on(scripted: openai.OpenAI, engine: ScriptedEngine) -> None:
    first = scripted.responses.create(model="scripted", input="a", max_output_tokens=2)
    said: Any = [item.model_dump(exclude_none=True) for item in first.output]
    turns = [{"role": "user", "content": "a"}, *said, {"role": "user", "content": "b"}]
    scripted.responses.create(model="scripted", input=turns, max_output_tokens=1)
    prompt = bytes(engine.seen[1].prompt_token_ids).decode()
    assert "one two " in prompt
    assert prompt.endswith("user: b\nassistant: ")


def test_a_streamed_response_tells_all_that_the_whole_one_has(scripted: openai.OpenAI) -> None:
    asked: Any = {"model": "scripted", "input": "a", "max_output_tokens": 3}
    whole = scripted.responses.create(**asked)
    events: list[Any] = list(scripted.responses.create(**asked, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type.removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * 3,
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "incomplete",
    ]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    last = events[-1]
    assert last.type == "response.incomplete"
    assert text == whole.output_text == last.response.output_text == "one two three "
    assert last.response.usage == whole.usage
    assert whole.incomplete_details is not None
    assert whole.incomplete_details.reason == "max_output_tokens"


def test_a_failure_in_mid_stream_is_an_event(
    scripted: openai.OpenAI, engine: ScriptedEngine
) -> None:
    engine.fails_after = 1
    *_, last = scripted.responses.create(model="scripted", input="a", stream=True)
    assert last.type == "error"
    assert last.message == "It broke."


REFUSED = [
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"store": True}, "store"),
    ({"text": {"format": {"type": "json_object"}}}, "text"),
    ({"input": []}, "input"),
    ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"max_output_tokens": 9999}, "max_output_tokens"),
    ({"input": "x" * 2000}, "input"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=[str(case)[:50] for case in REFUSED])
def test_what_is_not_supported_is_refused_by_name(
    scripted: openai.OpenAI, fields: dict[str, Any], param: str
) -> None:
    answer = httpx.post(f"{scripted.base_url}responses", json={"input": "a", **fields})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
