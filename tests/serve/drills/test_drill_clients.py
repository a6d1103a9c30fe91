"""Clients that are killed, or that are told to wait while the server stops."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.serve.checkpoint import write_tiny_chat_model
from tests.serve.drills.load import Answer, ask, ask_all, body, counted, health_watched, is_idle
from tests.serve.process import Setting, serving_process
from tests.serve.scripted import wait_until

STREAMS = 32
# Reads one event, and then as little as a process does that stands still.
CLIENT = """
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
    connection.sendall(sys.argv[3].encode())
    connection.recv(1)
    print(flush=True)
    time.sleep(3600)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_chat_model(tmp_path_factory.mktemp("model"))


def client_process(url: str, number: int) -> subprocess.Popen[bytes]:
    data = json.dumps(body(number, 450))
    request = (
        f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n{data}"
    )
    at = urlsplit(url)
    command = [sys.executable, "-I", "-S", "-c", CLIENT, str(at.hostname), str(at.port), request]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


@pytest.mark.parametrize("count", [1, 100])
def test_clients_are_killed(model: Path, count: int) -> None:
    with serving_process(model) as server, health_watched(server.url) as health:
        alone = ask(server.url, body(200, 300))
        beside: list[Answer] = []
        staying = threading.Thread(target=lambda: beside.append(ask(server.url, body(200, 300))))
        clients = [client_process(server.url, number) for number in range(count)]
        for client in clients[:60]:  # as many as run at once
            assert client.stdout is not None
            assert client.stdout.readline() == b"\n"
        staying.start()
        before = counted(server.url, "vllm:generation_tokens_total")
        for client in clients:
            client.kill()
        staying.join()
        wait_until(lambda: is_idle(server.url))
        made = counted(server.url, "vllm:generation_tokens_total") - before
        for client in clients:
            client.communicate()
        assert beside == [alone]
        assert (alone.status, len(alone.tokens), alone.finish_reason) == (200, 300, "length")
        assert made < 300 + count * 100  # of 450 each
        assert {status for _, status in health} == {200}


def test_told_to_stop_under_load_all_streams_finish(model: Path) -> None:
    asked = [body(number, 60 + number) for number in range(STREAMS)]
    with serving_process(model) as server, health_watched(server.url) as health:
        expected = ask_all(server.url, asked)
        answers: list[Answer] = []
        load = threading.Thread(target=lambda: answers.extend(ask_all(server.url, asked)))
        load.start()
        wait_until(lambda: counted(server.url, "vllm:num_requests_running") >= STREAMS)
        server.engine.send_signal(signal.SIGTERM)  # as a supervisor does that tells all processes
        server.process.send_signal(signal.SIGTERM)
        load.join()
        assert server.process.wait(timeout=30) == 0
    assert answers == expected
    assert {answer.finish_reason for answer in answers} == {"length"}
    assert {status for _, status in health} <= {200, 0}  # it lives until nobody listens


def test_who_does_not_finish_in_time_keeps_what_he_has(model: Path) -> None:
    setting = Setting(options={"drain_timeout": 0.5})
    with serving_process(model, setting) as server:
        answers: list[Answer] = []
        asked = [body(number, 450) for number in range(STREAMS)]
        load = threading.Thread(target=lambda: answers.extend(ask_all(server.url, asked)))
        load.start()
        wait_until(lambda: counted(server.url, "vllm:num_requests_running") >= STREAMS)
        told = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        load.join()
        assert server.process.wait(timeout=30) == 0
        assert time.monotonic() - told < 10
    assert {answer.finish_reason for answer in answers} == {"abort"}
    assert all(0 < len(answer.tokens) < 450 for answer in answers)
