"""Prompts sent back: their text, and what the model made of their tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.serve.scripted import RoleTemplate, ScriptedEngine, scripted_app, serving
from tests.serve.test_app import chat, complete, stream
from vivace.serve.app import create_app

ONE_TOKEN = {"max_tokens": 1, "logprobs": 0, "echo": True}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving(scripted_app(ScriptedEngine())) as url, httpx.Client(base_url=url) as client:
        yield client


@pytest.mark.parametrize("prompt", [["ab", "cd"], [[97, 98], [99, 100]]], ids=["text", "ids"])
def test_an_echo_stands_before_each_answer(client: httpx.Client, prompt: Any) -> None:
    answer = complete(client, prompt=prompt, n=2, max_tokens=1, echo=True)
    texts = [choice["text"] for choice in answer["choices"]]
    assert texts == ["abone ", "abone ", "cdone ", "cdone "]
    assert all(choice["logprobs"] is None for choice in answer["choices"])


def test_logprobs_begin_with_the_prompts(client: httpx.Client) -> None:
    choice = complete(client, prompt="abc", **ONE_TOKEN)["choices"][0]
    assert choice["text"] == "abcone "
    assert choice["logprobs"] == {
        "tokens": ["a", "b", "c", "one "],
        "token_logprobs": [None, -98.0, -99.0, -0.25],
        "top_logprobs": [None, {"b": -98.0}, {"c": -99.0}, {"one ": -0.25}],
        "text_offset": [0, 1, 2, 3],
    }


def test_each_choice_has_its_prompts_logprobs(client: httpx.Client) -> None:
    answer = complete(client, prompt=["ab", "xyz"], n=2, **ONE_TOKEN)
    tokens = [choice["logprobs"]["tokens"] for choice in answer["choices"]]
    assert tokens == [["a", "b", "one "]] * 2 + [["x", "y", "z", "one "]] * 2


def test_the_prompt_alone(client: httpx.Client) -> None:
    answer = complete(client, prompt="abc", **{**ONE_TOKEN, "max_tokens": 0})
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("abc", "length")
    assert choice["logprobs"]["token_logprobs"] == [None, -98.0, -99.0]
    assert answer["usage"]["completion_tokens"] == 0
    plain = complete(client, prompt="abc", max_tokens=0, echo=True)["choices"][0]
    assert (plain["text"], plain["logprobs"]) == ("abc", None)


@pytest.mark.parametrize("max_tokens", [0, 3])
def test_an_echo_is_the_same_streamed_or_not(client: httpx.Client, max_tokens: int) -> None:
    asked: dict[str, Any] = {"prompt": "abcd", "max_tokens": max_tokens, "logprobs": 0}
    whole = complete(client, **asked, echo=True)["choices"][0]
    events = stream(client, "/v1/completions", **asked, echo=True)
    parts = [event["choices"][0] for event in events]
    assert len(parts) == max(1, max_tokens)
    assert "".join(part["text"] for part in parts) == whole["text"]
    for name, values in whole["logprobs"].items():
        assert [value for part in parts for value in part["logprobs"][name]] == values


def test_prompt_logprobs_as_in_vllm(client: httpx.Client) -> None:
    expected = [None, {"98": {"logprob": -98.0, "rank": 2, "decoded_token": "b"}}]
    choice = complete(client, prompt="ab", prompt_logprobs=0)["choices"][0]
    assert choice["prompt_logprobs"] == expected
    assert choice["logprobs"] is None
    messages = [{"role": "user", "content": "x"}]
    answer = chat(client, messages=messages, prompt_logprobs=0, max_tokens=1)
    assert len(answer["prompt_logprobs"]) == answer["usage"]["prompt_tokens"]
    assert "prompt_logprobs" not in answer["choices"][0]


def test_a_model_without_a_tokenizer_scores_token_ids() -> None:
    app = create_app(ScriptedEngine(), None, RoleTemplate())
    with serving(app) as url, httpx.Client(base_url=url) as client:
        choice = complete(client, prompt=[97, 98], **ONE_TOKEN)["choices"][0]
    assert choice["logprobs"]["token_logprobs"] == [None, -98.0, -0.25]
