"""Clients that speak HTTP badly, beside one that must not notice.

    python benchmarks/wire_fuzz.py [--connections 3000] [--seed 1]

Each connection sends random bytes, a request that is cut, damaged, sent slowly or pipelined, and
leaves in one of several ways. A stream runs beside them, again and again, and must say the same as
alone; afterwards the server must be idle, with as many open files as before and no more memory.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import struct
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from own_server import OwnServer, own_server

CLIENTS = 16
WARM_UP = 300  # connections before memory is looked at
FEW_PAGES = ("--kv-memory", "8MiB", "--max-model-len", "512")  # all are in use by then
STREAM = {"prompt": "def add(", "max_tokens": 200, "temperature": 0, "ignore_eos": True}


def request(rng: random.Random, **fields: object) -> bytes:
    asked = {
        "prompt": "a",
        "max_tokens": rng.randint(1, 40),
        "stream": rng.random() < 0.5,
        **fields,
    }
    body = json.dumps(asked).encode()
    head = "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def random_bytes(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randint(1, 4000))


def cut(rng: random.Random) -> bytes:
    whole = request(rng)
    return whole[: rng.randrange(len(whole))]


def damaged(rng: random.Random) -> bytes:
    data = bytearray(request(rng))
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def pipelined(rng: random.Random) -> bytes:
    return b"".join(request(rng) for _ in range(rng.randint(2, 5)))


def bad_chunks(rng: random.Random) -> bytes:
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + rng.choice(
        [b"5\r\nabcde\r\n", b"zz\r\n", b"5\r\nab", b"-1\r\n\r\n", b"0\r\n\r\n"]
    )


def long_head(rng: random.Random) -> bytes:
    return b"GET /version HTTP/1.1\r\nx: " + b"a" * rng.randint(10_000, 200_000)


def good(rng: random.Random) -> bytes:
    return request(rng)


KINDS: tuple[Callable[[random.Random], bytes], ...] = (
    random_bytes,
    cut,
    damaged,
    pipelined,
    bad_chunks,
    long_head,
    good,
)


def misbehave(url: str, seed: int) -> None:
    """One connection."""
    rng = random.Random(seed)
    at = urlsplit(url)
    with socket.create_connection((at.hostname, at.port), timeout=5) as connection:
        try:
            _send(connection, rng.choice(KINDS)(rng), rng)
            _leave(connection, rng)
        except OSError:
            pass  # the server may end it first


def _send(connection: socket.socket, data: bytes, rng: random.Random) -> None:
    if rng.random() < 0.8:
        connection.sendall(data)
        return
    step = max(1, len(data) // 8)
    for start in range(0, len(data), step):
        connection.sendall(data[start : start + step])
        time.sleep(0.01)


def _leave(connection: socket.socket, rng: random.Random) -> None:
    how = rng.randrange(4)
    if how == 0:  # with a reset
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif how == 1:  # half, and then it listens
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(1)
        while connection.recv(1 << 16):
            pass
    elif how == 2:  # having read a little
        connection.settimeout(0.2)
        connection.recv(100)


def stream(url: str) -> str:
    data = json.dumps({**STREAM, "stream": True, "return_token_ids": True}).encode()
    headers = {"content-type": "application/json"}
    asked = urllib.request.Request(f"{url}/v1/completions", data, headers)
    tokens = []
    with urllib.request.urlopen(asked, timeout=60) as answer:
        for line in answer:
            if line.startswith(b"data: {"):
                tokens += json.loads(line[6:])["choices"][0]["token_ids"]
    return json.dumps(tokens)


def storm(server: OwnServer, first: int, count: int) -> None:
    with ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(lambda seed: misbehave(server.url, seed), range(first, first + count)))


def settled(server: OwnServer) -> bool:
    """Whether it is idle again, within the time that slow senders have."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if server.is_idle():
            time.sleep(3)  # for connections that were given up to be closed
            return server.is_idle()
        time.sleep(0.2)
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description="Clients that speak HTTP badly.")
    parser.add_argument("--connections", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with own_server("--slow-sender-timeout", "2", *FEW_PAGES) as server:
        print(json.dumps(measure(server, given.connections, given.seed)))


def measure(server: OwnServer, connections: int, seed: int) -> dict[str, object]:
    alone = stream(server.url)
    storm(server, seed * 10**6, WARM_UP)
    settled(server)
    files, memory = files_at_rest(server), server.resident_bytes()
    done = threading.Event()
    answers: list[str] = []

    def beside() -> None:
        while not done.is_set():
            answers.append(stream(server.url))

    thread = threading.Thread(target=beside)
    thread.start()
    storm(server, seed * 10**6 + WARM_UP, connections)
    done.set()
    thread.join()
    idle = settled(server)
    return {
        "connections": connections,
        "streams_beside": len(answers),
        "streams_changed": sum(answer != alone for answer in answers),
        "idle_afterwards": idle,
        "restarts": server.metric("vivace:engine_restarts_total"),
        "open_files": {"before": files, "after": files_at_rest(server)},
        "resident_bytes": {"before": memory, "after": server.resident_bytes()},
    }


def files_at_rest(server: OwnServer) -> dict[str, int]:
    """The fewest in a second: what asked last may still be closing."""
    looks = []
    for _ in range(20):
        looks.append(server.open_files())
        time.sleep(0.05)
    return {name: min(look[name] for look in looks) for name in looks[0]}


if __name__ == "__main__":
    main()
