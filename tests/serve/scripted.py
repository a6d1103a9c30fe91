"""An engine in memory that answers by a script, at the test's pace, and an HTTP server around it.

It stands in for the engine process where a test must decide when a token comes or when the
engine fails; the whole system is tested in test_server.py.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from vivace.core.errors import BackendError
from vivace.core.request import Delta, Logprob, Request
from vivace.core.sampling import SamplingParams
from vivace.core.stats import AdapterInfo, EngineInfo, EngineStats
from vivace.serve.app import create_app
from vivace.serve.options import ServeOptions
from vivace.serve.server import listen, uvicorn_config

WORDS = ["one ", "two ", "three ", "vier ", "fünf "]
FIRST_WORD = 256  # token ids below are bytes


def info(**changes: Any) -> EngineInfo:
    facts: dict[str, Any] = {
        "model_name": "scripted",
        "folder": "",
        "family": "llama",
        "backend": "reference",
        "dtype": "float32",
        "quantization": "int8",
        "vocab_size": FIRST_WORD + len(WORDS),
        "max_model_len": 1024,
        "eos_token_ids": (),
        "num_pages": 64,
        "page_tokens": 16,
        "max_num_seqs": 64,
        "max_num_batched_tokens": 512,
        "threads": 1,
        "load_seconds": 0.0,
        "default_params": SamplingParams(),
    }
    return EngineInfo(**{**facts, **changes})


class ScriptedEngine:
    """Says WORDS over and over; keeps what it was asked.

    Attributes:
        seconds: the time a token takes.
        fails_after: tokens before every request fails; None is never.
        gone: why the engine is not there; None where it is.
        running: requests being answered.
        told: tokens that somebody took.
        pins: ids of pinned prefixes.
        resets: how often its prefixes were to be forgotten.
    """

    def __init__(self, seconds: float = 0.0, **changes: Any) -> None:
        self.info = info(**changes)
        self.seconds = seconds
        self.fails_after: int | None = None
        self.gone: str | None = None
        self.resets = 0
        self.told = 0
        self.pins: tuple[str, ...] = ()
        self.adapters = self.info.adapters
        self.seen: list[Request] = []
        self.running: set[str] = set()
        self._aborted: set[str] = set()

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        assert request.request_id not in self.running
        self.seen.append(request)
        self.running.add(request.request_id)
        try:
            assert request.params.max_tokens is not None
            for part in self._scores(request):
                yield part
            for place in range(request.params.max_tokens):
                await asyncio.sleep(self.seconds)
                if request.request_id in self._aborted:
                    yield Delta(request.request_id, finish_reason="abort")
                    return
                if place == self.fails_after:
                    yield Delta(request.request_id, finish_reason="error", error="It broke.")
                    return
                self.told += 1
                yield self._delta(request, place)
        finally:
            self.running.discard(request.request_id)

    async def stats(self) -> EngineStats:
        if self.gone is not None:
            raise BackendError(self.gone)
        return EngineStats(
            running=len(self.running), pages_used=16, pages_total=64, preemptions=3, pins=self.pins
        )

    async def abort(self, request_id: str) -> None:
        self._aborted.add(request_id)

    async def load_adapter(self, name: str, path: str) -> tuple[AdapterInfo, ...]:
        self.adapters = (*self.adapters, AdapterInfo(name, path, 8))
        return self.adapters

    async def unload_adapter(self, name: str) -> tuple[AdapterInfo, ...]:
        self.adapters = tuple(one for one in self.adapters if one.name != name)
        return self.adapters

    async def reset_prefix_cache(self) -> None:
        self.resets += 1

    async def unpin(self, pin_id: str) -> None:
        self.pins = tuple(pin for pin in self.pins if pin != pin_id)

    async def check_health(self) -> None:
        if self.gone is not None:
            raise BackendError(self.gone)

    @staticmethod
    def _scores(request: Request) -> Iterator[Delta]:
        """The prompt's log-probabilities, two at a time."""
        prompt, wanted = request.prompt_token_ids, request.params.prompt_logprobs
        for start in range(1, len(prompt), 2) if wanted is not None else ():
            entries = [
                {token: Logprob(-float(token), 2, chr(token))}
                for token in prompt[start : start + 2]
            ]
            yield Delta(request.request_id, prompt_logprobs=tuple(entries))

    @staticmethod
    def _delta(request: Request, place: int) -> Delta:
        word = place % len(WORDS)
        wanted = request.params.logprobs
        likely = {FIRST_WORD + word: Logprob(-0.25, 1, WORDS[word])}
        likely |= {
            rank: Logprob(-math.inf, rank, chr(rank)) for rank in range(2, (wanted or 0) + 1)
        }
        return Delta(
            request.request_id,
            token_ids=(FIRST_WORD + word,),
            text=WORDS[word],
            logprobs=None if wanted is None else (likely,),
            finish_reason="length" if place + 1 == request.params.max_tokens else None,
            num_cached_tokens=min(4, len(request.prompt_token_ids)),
        )


class ByteTokenizer:
    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return list(text.encode())

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return "".join(map(self.token_text, token_ids))

    def token_text(self, token_id: int) -> str:
        return chr(token_id) if token_id < FIRST_WORD else WORDS[token_id - FIRST_WORD]


class RoleTemplate:
    """`role: content` on a line each, and the options it was given."""

    source = "{% for message in messages %}"

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        **kwargs: Any,
    ) -> str:
        self.options = kwargs
        lines = [f"{message['role']}: {message['content']}\n" for message in messages]
        return "".join(lines) + ("assistant: " if add_generation_prompt else "")


def scripted_app(engine: ScriptedEngine, options: ServeOptions | None = None) -> FastAPI:
    return create_app(engine, ByteTokenizer(), RoleTemplate(), options)


@contextmanager
def serving(app: FastAPI, options: ServeOptions | None = None) -> Iterator[str]:
    """The URL of a server in a thread of this process."""
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn_config(app, options or ServeOptions(drain_timeout=1)))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started)
        host, port = listener.getsockname()
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()


def wait_until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
