"""Kept connections, which a server may close whenever it likes, even as a request is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from vivace.bench.transport import LeanTransport

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CUT = ANSWER[:20]

pytestmark = pytest.mark.tiny


@asynccontextmanager
async def closing(
    *connections: list[bytes], resets: bool = False
) -> AsyncIterator[tuple[str, list[int]]]:
    """The URL of a server, and the requests that came, each the number of its connection.

    Args:
        connections: the answers that are given on each; then it ends, unanswered or cut off.
        resets: whether it ends as if broken.
    """
    requests: list[int] = []
    left = list(enumerate(connections))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, answers = left.pop(0)
        with suppress(asyncio.IncompleteReadError):
            for answer in [*answers, b""]:
                await reader.readuntil(b"\r\n\r\n{}")
                requests.append(number)
                writer.write(answer)
                await writer.drain()
                if answer != ANSWER:
                    break
        writer.transport.abort() if resets else writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests


def ask(times: int, *connections: list[bytes], resets: bool = False) -> tuple[list[str], list[int]]:
    """What came of requests one after the other, and the connections they were sent by."""

    async def run() -> tuple[list[str], list[int]]:
        async with (
            closing(*connections, resets=resets) as (url, requests),
            httpx.AsyncClient(transport=LeanTransport(5.0), trust_env=False) as client,
        ):
            return [await one(client, url) for _ in range(times)], requests

    return asyncio.run(run())


async def one(client: httpx.AsyncClient, url: str) -> str:
    try:
        return (await client.post(url, content=b"{}")).text
    except httpx.TransportError as error:
        return type(error).__name__


@pytest.mark.parametrize("resets", [False, True])
def test_what_a_kept_connection_leaves_unanswered_is_sent_on_a_new_one(resets: bool) -> None:
    results, connections = ask(3, [ANSWER], [ANSWER, ANSWER], resets=resets)
    assert results == ["ok"] * 3
    assert connections == [0, 0, 1, 1]


def test_it_is_sent_once_more_and_not_again() -> None:
    results, connections = ask(2, [ANSWER], [], [ANSWER])
    assert results == ["ok", "_UnansweredError"]
    assert connections == [0, 0, 1]


def test_once_more_is_not_by_another_kept_connection() -> None:
    """Which may be closing as well."""

    async def run() -> tuple[list[str], list[int]]:
        async with (
            closing([ANSWER], [ANSWER], [ANSWER]) as (url, requests),
            httpx.AsyncClient(transport=LeanTransport(5.0), trust_env=False) as client,
        ):
            both = await asyncio.gather(one(client, url), one(client, url))
            return [*both, await one(client, url)], requests

    results, connections = asyncio.run(run())
    assert results == ["ok"] * 3
    assert connections[-1] == 2


def test_a_new_connection_that_ends_unanswered_is_a_failure() -> None:
    assert ask(1, [], [ANSWER]) == (["_UnansweredError"], [0])


def test_an_answer_that_has_begun_is_not_asked_for_again() -> None:
    assert ask(2, [ANSWER, CUT], [ANSWER]) == (["ok", "RemoteProtocolError"], [0, 0])
