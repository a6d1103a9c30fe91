"""Clients of a drill: what they ask, what came of it, and what /health said meanwhile."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

SECONDS = 120.0  # for one answer, engines that start again included


@dataclass(frozen=True)
class Answer:
    """What a stream brought.

    Attributes:
        status: of HTTP.
        tokens: in the order in which they came.
        finish_reason: None where it was cut off.
        code: of the error that refused or ended it.
    """

    status: int
    tokens: tuple[int, ...] = ()
    finish_reason: str | None = None
    code: str | None = None


def body(number: int, max_tokens: int, **fields: Any) -> dict[str, Any]:
    """A greedy request whose prompt is its number's."""
    return {
        "prompt": [5 + number, *range(5, 25)],
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
        "stream": True,
        **fields,
    }


def ask(url: str, asked: dict[str, Any]) -> Answer:
    """Stream an answer to its end."""
    with httpx.stream("POST", f"{url}/v1/completions", json=asked, timeout=SECONDS) as answer:
        if answer.status_code != 200:
            answer.read()
            return Answer(answer.status_code, code=answer.json()["error"]["code"])
        return _read(answer.iter_lines())


def _read(lines: Iterator[str]) -> Answer:
    tokens: list[int] = []
    for line in lines:
        if not line or line == "data: [DONE]":
            continue
        event = json.loads(line.removeprefix("data: "))
        if "error" in event:
            return Answer(200, tuple(tokens), None, event["error"]["code"])
        (choice,) = event["choices"]
        tokens += choice["token_ids"]
        if choice["finish_reason"] is not None:
            return Answer(200, tuple(tokens), choice["finish_reason"])
    return Answer(200, tuple(tokens))


def ask_all(url: str, asked: Sequence[dict[str, Any]]) -> list[Answer]:
    """Stream all at once."""
    with ThreadPoolExecutor(len(asked)) as threads:
        return list(threads.map(lambda one: ask(url, one), asked))


def counted(url: str, name: str) -> float:
    """A metric of the server."""
    for line in httpx.get(f"{url}/metrics", timeout=SECONDS).text.splitlines():
        if line.startswith((name + "{", name + " ")):
            return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"{name} is not told")


def is_idle(url: str) -> bool:
    """Whether nothing runs or waits, and no page is held."""
    names = "num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"
    return all(counted(url, f"vllm:{name}") == 0 for name in names)


@contextmanager
def health_watched(url: str) -> Iterator[list[tuple[float, int]]]:
    """(when it was asked, status) of /health, again and again; 0 where nobody listens."""
    seen: list[tuple[float, int]] = []
    done = threading.Event()

    def watch() -> None:
        with httpx.Client(timeout=SECONDS) as client:
            while not done.wait(0.02):
                asked = time.monotonic()
                try:
                    seen.append((asked, client.get(f"{url}/health").status_code))
                except httpx.TransportError:
                    seen.append((asked, 0))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()
