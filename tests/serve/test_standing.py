"""Priority, tenant and deadline of a call, and what a client is told where the engine is full."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from tests.serve.scripted import ScriptedEngine, scripted_app, serving
from vivace.core.errors import OverloadedError
from vivace.core.request import Delta, Request

_FULL = OverloadedError("The queue is full.", 2.2, "max_num_queued_reqs")


class FullEngine(ScriptedEngine):
    """Refuses every request."""

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        yield Delta.failed(request.request_id, _FULL)


def standing(headers: dict[str, str], **fields: Any) -> Request:
    engine = ScriptedEngine()
    with serving(scripted_app(engine)) as url, httpx.Client(base_url=url) as client:
        body = {"prompt": "a", "max_tokens": 1, **fields}
        answer = client.post("/v1/completions", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
    return engine.seen[0]


def test_the_tenant_is_the_user_or_else_the_key() -> None:
    key = {"authorization": "Bearer secret"}
    assert standing({}).tenant == ""
    assert standing(key, user="me").tenant == "me"
    assert standing(key, safety_identifier="me").tenant == "me"
    by_key = standing(key).tenant
    assert by_key.startswith("key-")
    assert "secret" not in by_key
    assert by_key == standing(key).tenant != standing({"authorization": "Bearer other"}).tenant


def test_a_timeout_is_a_deadline_that_ends_the_request_unless_told_otherwise() -> None:
    ends = standing({}, timeout=1.5)
    assert ends.deadline == ends.arrival + 1.5
    assert ends.drop_if_late
    assert not standing({}, timeout=1.5, drop_if_late=False).drop_if_late
    assert standing({}).deadline is None


@pytest.mark.parametrize("fields", [{"timeout": 0}, {"drop_if_late": True}, {"timeout": "1"}])
def test_a_deadline_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with serving(scripted_app(ScriptedEngine())) as url, httpx.Client(base_url=url) as client:
        answer = client.post("/v1/completions", json={"prompt": "a", **fields})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == next(iter(fields))


@pytest.mark.parametrize("fields", [{}, {"stream": True}, {"n": 3}])
def test_a_full_queue_is_a_429_that_says_when_to_come_back(fields: dict[str, Any]) -> None:
    with serving(scripted_app(FullEngine())) as url, httpx.Client(base_url=url) as client:
        answer = client.post("/v1/completions", json={"prompt": "a", **fields})
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "3"
    assert answer.json()["error"] == {
        "message": "The queue is full.",
        "type": "rate_limit_error",
        "param": None,
        "code": "engine_overloaded",
    }


def test_a_server_that_stops_takes_no_further_calls() -> None:
    app = scripted_app(ScriptedEngine())
    with serving(app) as url, httpx.Client(base_url=url) as client:
        app.state.models.doors.stopping = True
        answer = client.post("/v1/completions", json={"prompt": "a"})
        assert (answer.status_code, client.get("/ready").status_code) == (503, 503)
        assert client.get("/health").status_code == 200  # it lives: nobody need restart it
    assert answer.json()["error"]["code"] == "server_stopping"
