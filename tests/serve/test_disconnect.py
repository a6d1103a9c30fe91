"""A client that leaves frees its request at once, whatever it was waiting for."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.serve.scripted import ScriptedEngine, scripted_app, serving, wait_until

FOREVER = 3600.0


@pytest.fixture
def url(engine: ScriptedEngine) -> Iterator[str]:
    with serving(scripted_app(engine)) as url:
        yield url


def post(url: str, **fields: Any) -> socket.socket:
    """A connection on which a request was sent and nothing read."""
    body = json.dumps({"prompt": "a", **fields}).encode()
    connection = socket.create_connection((urlsplit(url).hostname, urlsplit(url).port))
    connection.sendall(
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s"
        % (len(body), body)
    )
    return connection


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_leaving_before_the_first_token(
    url: str, engine: ScriptedEngine, stream: bool, n: int
) -> None:
    engine.seconds = FOREVER
    with post(url, stream=stream, n=n):
        wait_until(lambda: len(engine.running) == n)
    wait_until(lambda: not engine.running, seconds=1)
    metrics = httpx.get(f"{url}/metrics").text
    assert f'finished_reason="abort",model_name="scripted"}} {n}.0' in metrics


def test_leaving_in_mid_stream(url: str, engine: ScriptedEngine) -> None:
    engine.seconds = 0.01
    with post(url, stream=True, max_tokens=1000) as connection:
        received = b""
        while b"three" not in received:
            received += connection.recv(4096)
        assert len(engine.running) == 1
    wait_until(lambda: not engine.running, seconds=1)


def test_those_who_stay_are_not_disturbed(url: str, engine: ScriptedEngine) -> None:
    engine.seconds = 0.005
    with httpx.stream(
        "POST", f"{url}/v1/completions", json={"prompt": "b", "stream": True, "max_tokens": 100}
    ) as staying:
        events = staying.iter_lines()
        next(events)
        for _ in range(8):
            with post(url, stream=True, max_tokens=1000):
                wait_until(lambda: len(engine.running) == 2)
            wait_until(lambda: len(engine.running) == 1)
        rest = [line for line in events if line]
    assert rest[-1] == "data: [DONE]"
    assert len(rest) == 100


def test_leaving_while_sending_the_body(url: str, engine: ScriptedEngine) -> None:
    address = (urlsplit(url).hostname, urlsplit(url).port)
    with socket.create_connection(address) as connection:
        connection.sendall(
            b'POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{"pro'
        )
    answer = httpx.post(f"{url}/v1/completions", json={"prompt": "a", "max_tokens": 1})
    assert answer.status_code == 200
    assert len(engine.seen) == 1
