"""The client, against servers that fail in every way; sound ones are in test_serving.py."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest

from tests.bench.bad_server import TOKEN, answering, chunked, refusal
from vivace.bench.client import OpenAIClient
from vivace.bench.outcome import Outcome
from vivace.bench.plans import TargetPlan
from vivace.bench.prompts import Prompt
from vivace.core.errors import UsageError, VivaceError

PROMPT = Prompt([1, 2], 2, 7)


def send(*answers: bytes, **plan: Any) -> list[Outcome]:
    """What becomes of one request for each of the answers."""

    async def run() -> list[Outcome]:
        async with (
            answering(answers) as (url, _),
            OpenAIClient(TargetPlan(base_url=url, **plan)) as client,
        ):
            return [await client.send(client.body(PROMPT, "m"), 2) for _ in answers]

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal("500 Oops", "out of luck"), "HTTP 500: out of luck"),
        (refusal("404 Not Found", "x" * 10_000), "HTTP 404: " + "x" * 300),
        (chunked(TOKEN, b"data: nonsense\n\n"), "not a JSON object: nonsense"),
        (chunked(TOKEN, b'data: {"error": "gone"}\n\n'), "error"),
        (chunked(TOKEN, ends=False), "incomplete chunked read"),
        (chunked(b"data: [DONE]\n\n"), "without a token"),
        (b"not HTTP at all\r\n\r\n", "illegal status line"),
        (b"", "Nothing came for 0.5 s"),
    ],
    ids=("500", "404", "nonsense", "error", "broken", "empty", "http", "silent"),
)
def test_a_failure_is_an_outcome(answer: bytes, error: str) -> None:
    (outcome,) = send(answer, timeout=0.5)
    assert outcome.error is not None
    assert error in outcome.error
    assert (outcome.output_len, outcome.latency) == (0, 0.0)


def test_a_failure_does_not_harm_the_next_request() -> None:
    first, second = send(chunked(TOKEN, ends=False), chunked(TOKEN, TOKEN, b"data: [DONE]\n\n"))
    assert first.error is not None
    assert second.error is None
    assert (second.input_len, second.output_len, second.counted) == (2, 2, False)
    assert 0 < second.ttft <= second.latency


def test_connections_are_reused() -> None:
    """A connection that the server keeps open serves the next request, and no two at once."""
    keeps = chunked(TOKEN).replace(b"connection: close\r\n", b"")
    peers = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername"))
        with suppress(asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n{}")
                writer.write(keeps)
        writer.close()

    async def run() -> list[Outcome]:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        plan = TargetPlan(base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with server, OpenAIClient(plan) as client:
            one_by_one = [await client.send(b"{}", None) for _ in range(3)]
            return one_by_one + await asyncio.gather(*(client.send(b"{}", None) for _ in range(2)))

    outcomes = asyncio.run(run())
    assert [outcome.error for outcome in outcomes] == [None] * 5
    assert len(peers) == 2


def test_a_connection_that_the_server_has_closed_is_not_used_again() -> None:
    keeps = chunked(TOKEN).replace(b"connection: close\r\n", b"")

    async def run() -> list[Outcome]:
        async with (
            answering([keeps, keeps]) as (url, _),
            OpenAIClient(TargetPlan(base_url=url)) as client,
        ):
            first = await client.send(b"{}", None)
            await asyncio.sleep(0.1)
            return [first, await client.send(b"{}", None)]

    assert [outcome.error for outcome in asyncio.run(run())] == [None, None]


def test_a_refused_connection_is_an_outcome() -> None:
    async def run() -> Outcome:
        async with OpenAIClient(TargetPlan(base_url="http://127.0.0.1:9")) as client:
            return await client.send(b"{}", None)

    assert asyncio.run(run()).error is not None


def body(prompt: Prompt, **plan: Any) -> dict[str, Any]:
    return dict(json.loads(OpenAIClient(TargetPlan(**plan)).body(prompt, "m")))


def test_a_request_asks_for_what_was_planned() -> None:
    assert body(PROMPT) == {
        "model": "m",
        "prompt": [1, 2],
        "max_tokens": 7,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    extra = body(PROMPT, ignore_eos=True, extra_body='{"temperature": 0.5, "top_k": 3}')
    assert (extra["ignore_eos"], extra["temperature"], extra["top_k"]) == (True, 0.5, 3)
    chat = body(Prompt("hi", None, 7), endpoint="/v1/chat/completions")
    assert chat["messages"] == [{"role": "user", "content": "hi"}]
    assert "prompt" not in chat


@pytest.mark.parametrize("text", ["[]", "{", "3"])
def test_extra_fields_that_are_no_object_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        OpenAIClient(TargetPlan(extra_body=text))


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "http://", "ftp://a:1", "", "http://a:x", "http://a:99999", "http://a:0"],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="give http://HOST:PORT"):
        OpenAIClient(TargetPlan(base_url=url))


@pytest.mark.parametrize("key", ["secret\n", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_refused(key: str) -> None:
    with pytest.raises(UsageError, match="one line of ASCII"):
        OpenAIClient(TargetPlan(api_key=key))


def test_a_header_that_http_does_not_know_is_an_outcome() -> None:
    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def run() -> Outcome:
        server = await asyncio.start_server(close, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        plan = TargetPlan(base_url=url, api_key="ends in a space ")
        async with server, OpenAIClient(plan) as client:
            return await client.send(b"{}", None)

    assert "header" in str(asyncio.run(run()).error)


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan")])
def test_a_timeout_must_be_above_zero(timeout: float) -> None:
    with pytest.raises(UsageError, match="above 0"):
        TargetPlan(timeout=timeout)


def test_a_stream_may_end_without_ending_its_line() -> None:
    (outcome,) = send(chunked(TOKEN, TOKEN.rstrip()))
    assert (outcome.error, outcome.output_len) == (None, 2)


def test_a_server_that_cannot_count_is_not_asked_to() -> None:
    answers = (refusal("422 No", "unknown field: stream_options"), chunked(TOKEN))

    async def run() -> list[bytes]:
        async with (
            answering(answers) as (url, bodies),
            OpenAIClient(TargetPlan(base_url=url)) as client,
        ):
            await client.warm_up(PROMPT, "m")
            return [*bodies, client.body(PROMPT, "m")]

    first, second, later = asyncio.run(run())
    assert b"stream_options" in first
    assert b"stream_options" not in second + later


def test_a_failing_warm_up_is_an_error() -> None:
    async def run() -> None:
        async with (
            answering([refusal("400 Bad", "no such token")]) as (url, _),
            OpenAIClient(TargetPlan(base_url=url)) as client,
        ):
            await client.warm_up(PROMPT, "m")

    with pytest.raises(VivaceError, match="no such token"):
        asyncio.run(run())
