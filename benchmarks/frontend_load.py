"""Clients that read streams with as little effort as they can."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

_COUNT = re.compile(rb'"completion_tokens":\s*(\d+)')
PROMPT = "def count(limit):\n    for number in range(limit):\n"
END = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Load:
    """Attributes:
    clients: at once, each with a connection of its own.
    requests: of all clients together.
    tokens: of each answer.
    """

    clients: int
    requests: int
    tokens: int


def drive(url: str, load: Load) -> tuple[int, int]:
    """(tokens, events) that came; every request must be answered to its end."""
    with urllib.request.urlopen(f"{url}/v1/models") as answer:
        model = json.load(answer)["data"][0]["id"]
    share = load.requests // load.clients
    with ThreadPoolExecutor(load.clients) as threads:
        one = threads.map(lambda _: _client(url, model, share, load.tokens), range(load.clients))
        counts = list(one)
    return sum(tokens for tokens, _ in counts), sum(events for _, events in counts)


def _client(url: str, model: str, requests: int, max_tokens: int) -> tuple[int, int]:
    data = json.dumps(
        {
            "model": model,
            "prompt": PROMPT,
            "max_tokens": max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    at = urlsplit(url)
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: {at.netloc}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    ).encode()
    tokens = events = 0
    with socket.create_connection((at.hostname, at.port)) as connection:
        for _ in range(requests):
            connection.sendall(head + data)
            answer = _read(connection)
            count = _COUNT.findall(answer)
            if int(count[-1]) != max_tokens:
                raise RuntimeError(f"{max_tokens} tokens were asked for, {count[-1]!r} came.")
            tokens += max_tokens
            events += answer.count(b"\ndata: {") - 1  # the last one tells the usage
    return tokens, events


def _read(connection: socket.socket) -> bytes:
    """A chunked answer, as it stands on the wire."""
    received = bytearray()
    while not received.endswith(b"0\r\n\r\n"):
        data = connection.recv(1 << 18)
        if not data:
            raise RuntimeError(f"The server closed the connection after {bytes(received[-300:])!r}")
        received += data
    if END not in received:
        raise RuntimeError(f"An answer did not end: {bytes(received[-300:])!r}")
    return bytes(received)
