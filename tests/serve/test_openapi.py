"""The OpenAPI document says what the server does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.serve.scripted import ScriptedEngine, scripted_app
from vivace.serve.gate import ADMIN
from vivace.serve.schemas import ChatBody, CompletionBody

pytestmark = pytest.mark.tiny


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return scripted_app(ScriptedEngine()).openapi()


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    found = set(references(document))
    assert found <= names
    assert "#/components/schemas/ChatBody" in found


def test_every_post_has_a_body_that_allows_nothing_else(document: dict[str, Any]) -> None:
    posts = [path["post"] for path in document["paths"].values() if "post" in path]
    posts = [post for post in posts if "requestBody" in post]  # an order may need no word more
    assert len(posts) >= 10
    for operation in posts:
        content = operation["requestBody"]["content"]["application/json"]
        name = content["schema"]["$ref"].rsplit("/", 1)[1]
        assert document["components"]["schemas"][name]["additionalProperties"] is False
        assert {"400", "401", "413", "429", "503"} <= set(operation["responses"])
        assert "422" not in operation["responses"]


def test_what_is_for_administrators_may_be_forbidden(document: dict[str, Any]) -> None:
    for path in ADMIN:
        assert "403" in document["paths"][path]["post"]["responses"], path


@pytest.mark.parametrize("kind", [CompletionBody, ChatBody])
def test_what_is_not_supported_shows_the_values_that_ask_for_nothing(
    document: dict[str, Any], kind: Any
) -> None:
    properties = document["components"]["schemas"][kind.__name__]["properties"]
    assert set(properties) == {*kind.model_fields, *kind.neutral}
    assert properties["use_beam_search"]["enum"] == [None, False]
    assert properties["suffix"]["enum"] == [None]


def test_what_is_no_json_and_who_may_not_are_documented(document: dict[str, Any]) -> None:
    scraped = document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]
    assert set(scraped) == {"text/plain"}
    for path in ("/abort_request", "/drain", "/resume", "/reset_prefix_cache"):
        assert "403" in document["paths"][path]["post"]["responses"]
