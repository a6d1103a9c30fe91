"""What administrators may do, and nobody else."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.serve.scripted import ScriptedEngine, scripted_app, serving, wait_until
from tests.serve.test_app import complete
from vivace.serve.gate import ADMIN
from vivace.serve.options import ServeOptions

KEY = {"authorization": "Bearer root"}


@pytest.fixture
def client(engine: ScriptedEngine) -> Iterator[httpx.Client]:
    app = scripted_app(engine, ServeOptions(admin_key="root"))
    with serving(app) as url, httpx.Client(base_url=url) as client:
        yield client


@pytest.mark.parametrize("path", sorted(ADMIN))
def test_their_key_is_asked_for(client: httpx.Client, path: str) -> None:
    for headers in ({}, {"authorization": "Bearer other"}):
        answer = client.post(path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_without_a_key_of_theirs_nobody_may(engine: ScriptedEngine) -> None:
    app = scripted_app(engine, ServeOptions(api_key="k"))
    with serving(app) as url, httpx.Client(base_url=url) as client:
        answer = client.post("/drain", headers={"authorization": "Bearer k"})
    assert answer.status_code == 403
    assert answer.json()["error"]["type"] == "permission_error"
    assert "--admin-key" in answer.json()["error"]["message"]


@pytest.mark.parametrize("everything", [True, False])
def test_a_call_is_ended_and_keeps_what_it_has(
    client: httpx.Client, engine: ScriptedEngine, everything: bool
) -> None:
    engine.seconds = 0.01
    answers = []

    def ask() -> None:
        answers.append(complete(client, n=2, max_tokens=500, request_id="long"))

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: len(engine.running) == 2)
    body = {"abort_all": True} if everything else {"request_id": "cmpl-long"}
    ended = client.post("/abort_request", json=body, headers=KEY)
    assert ended.json() == {"aborted": 2}
    asking.join()
    choices = answers[0]["choices"]
    assert [choice["finish_reason"] for choice in choices] == ["abort", "abort"]
    assert answers[0]["usage"]["completion_tokens"] < 1000
    gone = client.post("/abort_request", json={"request_id": "cmpl-long"}, headers=KEY)
    assert gone.status_code == 404


@pytest.mark.parametrize("body", [{}, {"request_id": "a", "abort_all": True}])
def test_who_is_to_be_ended_must_be_said(client: httpx.Client, body: dict[str, object]) -> None:
    answer = client.post("/abort_request", json=body, headers=KEY)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "request_id")


def test_the_prefix_cache_is_reset(client: httpx.Client, engine: ScriptedEngine) -> None:
    assert client.post("/reset_prefix_cache", headers=KEY).json() == {"reset": True}
    assert engine.resets == 1


def test_a_server_that_drains_takes_calls_again_when_told(client: httpx.Client) -> None:
    assert client.post("/drain", headers=KEY).json() == {"draining": True, "running": 0}
    refused = client.post("/v1/completions", json={"prompt": "a"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_draining")
    assert client.get("/ready").status_code == 503
    assert client.get("/health").status_code == 200
    assert client.post("/resume", headers=KEY).json() == {"draining": False, "running": 0}
    assert complete(client, max_tokens=1)["choices"]
