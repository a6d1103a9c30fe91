"""Who may call, and how much."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from tests.serve.scripted import ScriptedEngine, scripted_app, serving, wait_until
from vivace.core.errors import UsageError
from vivace.serve.errors import ApiError
from vivace.serve.keys import Caller, Meter, read_keys
from vivace.serve.options import ServeOptions

ALICE = {"authorization": "Bearer alices"}


def line(name: str, key: str, limits: str = "") -> str:
    return f"{name} {sha256(key.encode()).hexdigest()} {limits}\n"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(
        "# who may call\n\n"
        + line("alice", "alices", "max_concurrent=1")
        + line("bob", "bobs", "max_per_minute=2")
    )
    return path


@pytest.fixture
def client(engine: ScriptedEngine, keys: Path) -> Iterator[httpx.Client]:
    app = scripted_app(engine, ServeOptions(api_key="plain", api_key_file=str(keys)))
    with serving(app) as url, httpx.Client(base_url=url) as client:
        yield client


def ask(client: httpx.Client, headers: dict[str, str], **fields: object) -> httpx.Response:
    return client.post(
        "/v1/completions", json={"prompt": "a", "max_tokens": 1, **fields}, headers=headers
    )


def test_a_key_of_the_file_names_its_tenant(client: httpx.Client, engine: ScriptedEngine) -> None:
    assert ask(client, ALICE).status_code == 200
    assert ask(client, {"x-api-key": "alices"}).status_code == 200
    assert ask(client, {"authorization": "Bearer plain"}).status_code == 200
    assert ask(client, {"authorization": "Bearer other"}).status_code == 401
    assert ask(client, {"authorization": "Basic alices"}).status_code == 401
    assert [one.tenant for one in engine.seen][:2] == ["alice", "alice"]
    assert engine.seen[2].tenant.startswith("key-")


def test_calls_at_once_are_limited_until_the_last_byte(
    client: httpx.Client, engine: ScriptedEngine
) -> None:
    engine.seconds = 0.02
    done = threading.Event()

    def hold() -> None:
        with client.stream(
            "POST",
            "/v1/completions",
            json={"prompt": "a", "max_tokens": 500, "stream": True},
            headers=ALICE,
        ) as answer:
            done.wait(10)
            answer.close()

    holding = threading.Thread(target=hold)
    holding.start()
    wait_until(lambda: bool(engine.running))
    refused = ask(client, ALICE)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert refused.headers["retry-after"] == "1"
    done.set()
    holding.join()
    wait_until(lambda: ask(client, ALICE).status_code == 200)


def test_calls_a_minute_are_limited_for_one_key_alone(client: httpx.Client) -> None:
    bob = {"authorization": "Bearer bobs"}
    statuses = [ask(client, bob).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert int(ask(client, bob).headers["retry-after"]) in range(1, 31)
    assert ask(client, ALICE).status_code == 200


@pytest.mark.tiny
def test_a_bucket_of_calls_fills_by_itself() -> None:
    now = 0.0
    meter = Meter(Caller("a", max_per_minute=2), lambda: now)
    meter.enter()
    meter.enter()
    with pytest.raises(ApiError) as caught:
        meter.enter()
    assert caught.value.headers == {"retry-after": "30"}
    now = 31.0
    meter.enter()
    with pytest.raises(ApiError):
        meter.enter()


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no key"),
        ("alice secret\n", "Line 1"),
        (line("a", "k") + line("b", "l", "max_concurrent=0"), "Line 2"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(UsageError, match=says):
        read_keys(tmp_path / "keys")
    with pytest.raises(UsageError, match="cannot be read"):
        read_keys(tmp_path / "none")
