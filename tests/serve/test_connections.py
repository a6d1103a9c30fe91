"""Connections of clients that are slow, silent, half gone, or speak something else than HTTP."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.serve.scripted import ScriptedEngine, scripted_app, serving, wait_until
from vivace.core.errors import UsageError
from vivace.serve.options import ServeOptions

QUICK = 0.3
OPTIONS = ServeOptions(slow_sender_timeout=QUICK, slow_reader_timeout=QUICK, drain_timeout=1)
HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"


@pytest.fixture
def url(engine: ScriptedEngine) -> Iterator[str]:
    with serving(scripted_app(engine, OPTIONS), OPTIONS) as url:
        yield url


@contextmanager
def connected(url: str, receive_bytes: int | None = None) -> Iterator[socket.socket]:
    with socket.socket() as connection:
        if receive_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.settimeout(5)
        at = urlsplit(url)
        connection.connect((at.hostname, at.port))
        yield connection


def request(**fields: Any) -> bytes:
    body = json.dumps({"prompt": "a", **fields}).encode()
    return HEAD % len(body) + body


def is_cut_off(connection: socket.socket) -> bool:
    """Waits for it; what was sent before is read."""
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionResetError:
        return True
    return True


@pytest.mark.parametrize(
    "beginning",
    [b"", b"POST /v1/comp", HEAD % 50, HEAD % 50 + b'{"prompt":'],
    ids=["nothing", "half a head", "a head", "half a body"],
)
def test_slow_senders_are_cut_off(url: str, engine: ScriptedEngine, beginning: bytes) -> None:
    with connected(url) as connection:
        started = time.monotonic()
        connection.sendall(beginning)
        assert is_cut_off(connection)
        assert QUICK * 0.9 < time.monotonic() - started < 10 * QUICK
    assert not engine.seen


def test_a_slow_second_request_is_cut_off_too(url: str, engine: ScriptedEngine) -> None:
    with connected(url) as connection:
        connection.sendall(request(max_tokens=1) + b"POST /v1")
        assert is_cut_off(connection)
    assert len(engine.seen) == 1


def test_waiting_for_an_answer_is_no_slowness(url: str, engine: ScriptedEngine) -> None:
    engine.seconds = 2 * QUICK
    assert httpx.post(f"{url}/v1/completions", json={"prompt": "a", "max_tokens": 2}).is_success


def test_an_idle_connection_is_kept(url: str) -> None:
    with httpx.Client(base_url=url) as client:
        assert client.get("/version").is_success
        time.sleep(2 * QUICK)
        with connected(url):
            assert client.get("/version").is_success


def test_who_does_not_read_is_cut_off_and_holds_nobody_up(url: str, engine: ScriptedEngine) -> None:
    """More is streamed to it than fits in the buffers of the system."""
    asked = request(stream=True, max_tokens=1000, n=32, logprobs=20)
    with connected(url, receive_bytes=4096) as connection:
        connection.sendall(asked)
        wait_until(lambda: len(engine.running) == 32)
        beside = httpx.post(f"{url}/v1/completions", json={"prompt": "b", "max_tokens": 100})
        assert beside.json()["usage"]["completion_tokens"] == 100
        wait_until(lambda: not engine.running, seconds=60)
        assert is_cut_off(connection)


def test_no_more_is_made_than_somebody_reads(engine: ScriptedEngine) -> None:
    """What does not fit in the buffers of the system stays with the engine."""
    asked = request(stream=True, max_tokens=1000, n=16, logprobs=20)
    with serving(scripted_app(engine)) as url, connected(url, receive_bytes=4096) as connection:
        connection.sendall(asked)
        wait_until(lambda: len(engine.running) == 16)
        before = -1
        while engine.told > before:
            before = engine.told
            time.sleep(0.3)
        assert 0 < engine.told < 16 * 1000


def test_half_closed_connections_are_closed(url: str, engine: ScriptedEngine) -> None:
    engine.seconds = 60
    with connected(url) as connection:
        connection.sendall(request())
        wait_until(lambda: bool(engine.running))
        connection.shutdown(socket.SHUT_WR)
        assert is_cut_off(connection)
    wait_until(lambda: not engine.running)


def test_pipelined_requests_are_answered_in_turn(url: str) -> None:
    with connected(url) as connection:
        last = b"GET /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        connection.sendall(request(max_tokens=1) + request(max_tokens=2) + last)
        received = b""
        while data := connection.recv(1 << 16):
            received += data
    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert received.index(b'"completion_tokens":1') < received.index(b'"completion_tokens":2')


@pytest.mark.parametrize("data", [b"\x16\x03\x01 what\r\n\r\n", b"GET / HTTP/one\r\n", b"\0" * 99])
def test_what_is_not_http_is_told_so(url: str, data: bytes) -> None:
    with connected(url) as connection:
        connection.sendall(data + b"\r\n\r\n")
        received = b""
        while chunk := connection.recv(1 << 16):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["code"] == "invalid_http"


def test_nonsense_in_a_body_that_is_being_answered_ends_the_connection(
    url: str, engine: ScriptedEngine
) -> None:
    engine.seconds = 0.01
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    with connected(url) as connection:
        connection.sendall(head + b"5\r\nabcde\r\nnot a length\r\n")
        assert is_cut_off(connection)
    assert not engine.seen
    assert httpx.get(f"{url}/version").is_success


@pytest.mark.parametrize("value", [0, -1.0, float("inf"), float("nan")])
def test_times_are_above_zero(value: float) -> None:
    with pytest.raises(UsageError, match="slow_reader_timeout"):
        ServeOptions(slow_reader_timeout=value)
