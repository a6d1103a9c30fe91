"""Whatever a body holds, the answer is a result or a refusal that names the field: never a 500."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serve.scripted import ScriptedEngine, scripted_app, serving
from vivace.serve.schemas import (
    NEUTRAL_IN_CHAT,
    ChatBody,
    CompletionBody,
    EmbeddingBody,
    PrefetchBody,
    RerankBody,
    ScoreBody,
    TokenizeBody,
)

BODIES = {
    "/v1/completions": (CompletionBody, {"prompt": "ab"}),
    "/v1/chat/completions": (ChatBody, {"messages": [{"role": "user", "content": "a"}]}),
    "/v1/embeddings": (EmbeddingBody, {"input": "ab"}),
    "/v1/prefetch": (PrefetchBody, {"prompt": "ab"}),
    "/v1/score": (ScoreBody, {"text_1": "a", "text_2": ["b"]}),
    "/v1/rerank": (RerankBody, {"query": "a", "documents": ["b"]}),
    "/tokenize": (TokenizeBody, {"prompt": "ab"}),
}
NUMBERS = (0, 1, -1, 2, 21, 300, 2**31, 2**63, 2**70, 0.5, -0.0, 1e-300, 1e300)
TEXTS = ("", " ", "a", "\x00", "é\U0001f600", "x" * 200)
SINGLE = st.sampled_from((None, True, False, *NUMBERS, *TEXTS))
VALUES = st.one_of(
    SINGLE,
    st.lists(SINGLE, max_size=3),
    st.dictionaries(st.sampled_from(("1", "-1", "a", "type", "include_usage")), SINGLE, max_size=2),
    st.lists(st.lists(SINGLE, max_size=2), max_size=2),
    st.lists(st.fixed_dictionaries({"role": SINGLE, "content": SINGLE}), max_size=2),
)
OFTEN_RIGHT = st.one_of(st.sampled_from((None, 1, 2, 0.5, True, "a", [1], ["a"])), VALUES)


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def scripted() -> Iterator[httpx.Client]:
    with serving(scripted_app(ScriptedEngine())) as url, httpx.Client(base_url=url) as client:
        yield client


def fields_of(path: str) -> st.SearchStrategy[dict[str, Any]]:
    kind, given_fields = BODIES[path]
    names = sorted({*kind.model_fields, *kind.neutral, "surprise"} - {"model", "timeout"})
    chosen = st.dictionaries(st.sampled_from(names), OFTEN_RIGHT, max_size=4)
    return chosen.map(lambda some: _short({**given_fields, **some}, "max_tokens" in names))


def _short(body: dict[str, Any], generates: bool) -> dict[str, Any]:
    """No answer runs to the end of the context."""
    if generates and body.get("max_tokens") is None:
        body["max_tokens"] = 2
    return body


def check(client: httpx.Client, path: str, body: dict[str, Any]) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code in (200, 400), (body, answer.text)
    assert answer.headers["x-request-id"]
    if answer.status_code == 400:
        error = answer.json()["error"]
        assert error["param"] in body, (body, error)
        assert error["code"], (body, error)
        assert error["message"].endswith("."), error


ANY = settings(max_examples=150, deadline=None, derandomize=True, database=None)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
@given(data=st.data())
@ANY
def test_a_scripted_engine_is_asked_or_the_body_refused(
    scripted: httpx.Client, path: str, data: st.DataObject
) -> None:
    check(scripted, path, data.draw(fields_of(path)))


@pytest.mark.parametrize("path", BODIES)
@given(data=st.data())
@settings(ANY, max_examples=60)
def test_the_real_engine_answers_or_the_body_is_refused(
    client: httpx.Client, path: str, data: st.DataObject
) -> None:
    check(client, path, data.draw(fields_of(path)))


def test_what_is_neutral_in_one_kind_is_never_a_failure_in_another(scripted: httpx.Client) -> None:
    for name in sorted(NEUTRAL_IN_CHAT):
        for path in ("/v1/completions", "/v1/chat/completions"):
            check(scripted, path, {**BODIES[path][1], "max_tokens": 1, name: {"a": 1}})
