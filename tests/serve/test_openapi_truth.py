"""What every route answers, whatever goes wrong, is what the OpenAPI document says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from tests.serve.scripted import ScriptedEngine, scripted_app, serving
from vivace.serve.openapi import AnthropicErrorAnswer, ErrorAnswer
from vivace.serve.options import ServeOptions

ADMIN = {"x-api-key": "admin"}
TURNS = [{"role": "user", "content": "a"}]
BODIES: dict[str, dict[str, Any]] = {
    "/abort_request": {"request_id": "none"},
    "/detokenize": {"tokens": [97]},
    "/rerank": {"query": "a", "documents": ["b"]},
    "/score": {"text_1": "a", "text_2": "b"},
    "/tokenize": {"prompt": "a"},
    "/v1/chat/completions": {"messages": TURNS, "max_tokens": 1},
    "/v1/completions": {"prompt": "a", "max_tokens": 1},
    "/v1/embeddings": {"input": "a"},
    "/v1/load_lora_adapter": {"lora_name": "one", "lora_path": "/one"},
    "/v1/messages": {"messages": TURNS, "max_tokens": 1},
    "/v1/messages/count_tokens": {"messages": TURNS},
    "/v1/prefetch": {"prompt": "a"},
    "/v1/rerank": {"query": "a", "documents": ["b"]},
    "/v1/responses": {"input": "a", "max_output_tokens": 1},
    "/v1/score": {"text_1": "a", "text_2": "b"},
    "/v1/unload_lora_adapter": {"lora_name": "one"},
}
NO_BODY = {"/drain", "/reset_prefix_cache", "/resume"}
OPERATORS = {"/drain", "/resume"}  # last, as nothing is answered between them
# The scripted engine makes none, which is an error.
VECTORS = {"/rerank", "/score", "/v1/embeddings", "/v1/rerank", "/v1/score"}
ERRORS = {kind.__name__: TypeAdapter(kind) for kind in (ErrorAnswer, AnthropicErrorAnswer)}


class Truth:
    """A server and its own description; every answer is held to it.

    Attributes:
        statuses: by operation, those that were seen.
    """

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self._document: dict[str, Any] = client.get("/openapi.json").json()
        self.statuses: dict[tuple[str, str], set[int]] = {}

    @property
    def operations(self) -> list[tuple[str, str, dict[str, Any]]]:
        paths = self._document["paths"]
        found = [(path, method, one) for path in paths for method, one in paths[path].items()]
        return sorted(found, key=lambda one: (one[0] in OPERATORS, one[0]))

    def ask(self, change: Callable[[dict[str, Any]], Any] = dict, **headers: str) -> None:
        """Every operation, with its body changed: a dictionary, or bytes as they are."""
        for path, method, operation in self.operations:
            asked: dict[str, Any] = {}
            if path in BODIES:
                body = change(BODIES[path])
                asked = {"content" if isinstance(body, bytes) else "json": body}
            url = path.replace("{model}", "scripted").replace("{pin_id}", "none")
            answer = self.client.request(method, url, headers=headers or ADMIN, **asked)
            self._check(operation, answer)
            self.statuses.setdefault((method, path), set()).add(answer.status_code)

    def seen(self, status: int) -> set[str]:
        return {path for (_, path), found in self.statuses.items() if status in found}

    @staticmethod
    def _check(operation: dict[str, Any], answer: httpx.Response) -> None:
        where = f"{answer.request.method} {answer.request.url.path}: {answer.status_code}"
        told = operation["responses"].get(str(answer.status_code))
        assert told is not None, f"{where} is not documented"
        kind = answer.headers["content-type"].split(";")[0]
        assert kind in told["content"], f"{where} is {kind}"
        if answer.is_error:
            name = told["content"][kind]["schema"]["$ref"].rsplit("/", 1)[1]
            ERRORS[name].validate_json(answer.content, strict=True)


@pytest.fixture
def truth(engine: ScriptedEngine) -> Iterator[Truth]:
    """One key opens everything."""
    options = ServeOptions(api_key="admin", admin_key="admin", max_body_bytes=2000, page=False)
    with (
        serving(scripted_app(engine, options)) as url,
        httpx.Client(base_url=url, timeout=20) as client,
    ):
        yield Truth(client)


def test_every_body_is_in_the_table(truth: Truth) -> None:
    posts = {path for path, method, _ in truth.operations if method == "post"}
    assert posts == BODIES.keys() | NO_BODY


def test_what_is_right(truth: Truth) -> None:
    truth.ask()
    unknown = {"/abort_request", "/v1/prefetch/{pin_id}"}
    assert truth.seen(404) == unknown
    assert truth.seen(200) == {path for path, *_ in truth.operations} - unknown - VECTORS


def test_what_is_wrong_with_a_body(truth: Truth) -> None:
    for wrong in (b"{", b"[]", b"\xff", b"{}"):
        truth.ask(lambda _, wrong=wrong: wrong)
    truth.ask(lambda body: {**body, "surprise": 1})
    assert truth.seen(400) == BODIES.keys()
    truth.ask(lambda _: b" " * 3000)
    assert truth.seen(413) == BODIES.keys()
    truth.ask(lambda body: {**body, "model": "other"})
    assert truth.seen(404) - {"/v1/prefetch/{pin_id}"} >= BODIES.keys() - {"/abort_request"}


def test_who_may_not(truth: Truth) -> None:
    truth.ask(authorization="Bearer wrong")
    open_paths = {"/health", "/ready", "/metrics", "/version"}
    assert truth.seen(401) == {path for path, *_ in truth.operations} - open_paths


def test_nobody_is_an_administrator(engine: ScriptedEngine) -> None:
    app = scripted_app(engine, ServeOptions(page=False))
    with serving(app) as url, httpx.Client(base_url=url) as client:
        truth = Truth(client)
        truth.ask()
    adapters = {"/v1/load_lora_adapter", "/v1/unload_lora_adapter"}
    assert truth.seen(403) == {"/abort_request", *NO_BODY, *adapters}


def test_an_engine_that_fails_or_is_gone(truth: Truth, engine: ScriptedEngine) -> None:
    engine.fails_after = 0
    truth.ask()
    assert truth.seen(500) >= {"/v1/completions", "/v1/messages", "/v1/responses", "/v1/prefetch"}
    engine.gone = "It is gone."
    truth.ask()
    assert truth.seen(503) >= {"/health", "/ready", "/v1/completions", "/v1/prefetch/{pin_id}"}


def test_a_server_that_drains(truth: Truth) -> None:
    truth.client.post("/drain", headers=ADMIN)
    truth.ask()
    assert truth.seen(503) >= {"/ready", "/v1/completions", "/v1/embeddings", "/v1/messages"}


def test_callers_that_ask_too_much(engine: ScriptedEngine, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"me {sha256(b'admin').hexdigest()} max_per_minute=1\n")
    options = ServeOptions(api_key_file=str(keys), admin_key="admin", page=False)
    with serving(scripted_app(engine, options)) as url, httpx.Client(base_url=url) as client:
        truth = Truth(client)
        truth.ask()
    assert truth.seen(429) >= {"/v1/completions", "/v1/messages", "/tokenize", "/server_info"}
