"""A peer's server that will not serve is known as absent at once, and not after minutes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from tests.bench.scripts import BENCHMARKS

sys.path.insert(0, str(BENCHMARKS))

from peers.environments import AbsentError
from peers.servers import await_answer

SLEEP = "import time; time.sleep(60)"


@contextmanager
def answering(*statuses: HTTPStatus) -> Iterator[str]:
    """The URL of a server that answers so, in turn."""
    left = list(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(left.pop(0))
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def process(code: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", code]) as started:
        try:
            yield started
        finally:
            started.kill()


def test_a_server_that_still_loads_is_waited_for() -> None:
    loading, ready = HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.OK
    with answering(loading, loading, ready) as url, process(SLEEP) as server:
        await_answer(url, server)


def test_a_server_that_fails_is_absent() -> None:
    with (
        answering(HTTPStatus.INTERNAL_SERVER_ERROR) as url,
        process(SLEEP) as server,
        pytest.raises(AbsentError, match="answers 500"),
    ):
        await_answer(url, server)


def test_a_server_that_ends_is_absent() -> None:
    with process("raise SystemExit(3)") as server:
        server.wait()
        with pytest.raises(AbsentError, match="with 3"):
            await_answer("http://127.0.0.1:9", server)
