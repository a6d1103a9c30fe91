"""Alive, ready, and what the server says of itself."""

from __future__ import annotations

import httpx
import pytest

from tests.serve.scripted import ScriptedEngine, scripted_app, serving
from tests.serve.test_app import complete
from vivace.serve.options import ServeOptions


def test_an_idle_engine_proves_once_that_it_computes(
    client: httpx.Client, engine: ScriptedEngine
) -> None:
    for _ in range(3):
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/ready").json() == {"status": "ready"}
    (proof,) = engine.seen
    assert (len(proof.prompt_token_ids), proof.params.max_tokens) == (1, 1)


def test_a_token_for_a_caller_is_proof_enough(client: httpx.Client, engine: ScriptedEngine) -> None:
    complete(client, max_tokens=1)
    assert client.get("/health").status_code == 200
    assert len(engine.seen) == 1


def test_an_engine_that_answers_and_does_not_compute_is_not_healthy(
    client: httpx.Client, engine: ScriptedEngine
) -> None:
    engine.fails_after = 0
    answer = client.get("/health")
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == "The engine produces no token: It broke."
    assert client.get("/ready").status_code == 503
    engine.fails_after = None
    assert client.get("/ready").status_code == 200


def test_an_engine_that_is_silent_is_not_healthy(
    client: httpx.Client, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vivace.serve.liveness.PROOF_SECONDS", 0.01)
    engine.seconds = 60
    assert "was silent" in client.get("/health").json()["error"]["message"]
    assert not engine.running


def test_server_info(client: httpx.Client) -> None:
    answer = client.get("/server_info").json()
    assert answer["served_model_name"] == "scripted"
    assert answer["model"]["max_model_len"] == 1024
    assert "folder" not in answer["model"]
    assert answer["engine"]["preemptions"] == 3
    assert answer["draining"] is False


def test_server_info_needs_the_key(engine: ScriptedEngine) -> None:
    app = scripted_app(engine, ServeOptions(api_key="k"))
    with serving(app) as url, httpx.Client(base_url=url) as client:
        assert client.get("/server_info").status_code == 401
        assert client.post("/tokenize", json={"prompt": "a"}).status_code == 401
        assert client.get("/ready").status_code == 200
