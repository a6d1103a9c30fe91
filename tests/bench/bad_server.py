"""A server that answers whatever it is told to: what no sound server can be made to send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    b"connection: close\r\n\r\n"
)
TOKEN = b'data: {"choices": [{"text": "a", "finish_reason": null}]}\n\n'


def chunked(*parts: bytes, ends: bool = True) -> bytes:
    """A streamed answer; without its end the connection breaks off."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return HEAD + body + (b"0\r\n\r\n" if ends else b"")


def refusal(status: str, text: str) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(text)}\r\nconnection: close\r\n\r\n"
    return (head + text).encode()


@asynccontextmanager
async def answering(answers: Sequence[bytes]) -> AsyncIterator[tuple[str, list[bytes]]]:
    """The URL of a server that gives these answers in turn, and the bodies it was sent; an empty
    answer never comes."""
    left, bodies, handlers = list(answers), [], []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = (
            int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"length" in line
        )
        bodies.append(await reader.readexactly(length))
        data = left.pop(0)
        writer.write(data)
        await writer.drain()
        if not data:
            await reader.read()  # until the client gives up
        writer.close()
        with suppress(OSError):  # the client may have broken off
            await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", bodies
        await asyncio.gather(*handlers)
