"""A transport for httpx that goes straight from asyncio's streams to the parser, h11.

httpx's own spends most of its time between the two, for what a load driver does not need. The
driver shares a machine with the server it measures: what it takes is missing there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import h11
import httpx

READ_BYTES = 1 << 16


class LeanTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1, with as many connections as there are requests under way; ended ones are reused."""

    def __init__(self, timeout: float) -> None:
        """Args: timeout: seconds without a byte from the server until a request fails."""
        self._timeout = timeout
        self._idle: list[_Connection] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx.TransportError: there is no connection, or it broke, or made no sense."""
        await request.aread()
        idle = await self._take_idle()
        if idle is not None:
            # A server may close a kept connection while a request is on its way. It is sent once
            # more: asking a model again changes nothing on the server (RFC 9112, section 9.3.1).
            with suppress(_UnansweredError):
                return await self._exchange(idle, request)
        return await self._exchange(await _connect(request.url, self._timeout), request)

    async def _exchange(self, connection: _Connection, request: httpx.Request) -> httpx.Response:
        try:
            head = await connection.send(request)
        except BaseException:
            await connection.close()
            raise
        stream = _Body(connection, self._idle)
        return httpx.Response(head.status_code, headers=list(head.headers), stream=stream)

    async def aclose(self) -> None:
        while self._idle:
            await self._idle.pop().close()

    async def _take_idle(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
            await connection.close()
        return None


class _UnansweredError(httpx.RemoteProtocolError):
    """The connection ended before any byte of the answer."""


class _Connection:
    """One request at a time."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout: float
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._timeout = timeout
        self._expired = False
        self._is_answered = False
        self._parser = h11.Connection(h11.CLIENT)

    @property
    def is_open(self) -> bool:
        return not self._reader.at_eof()

    async def send(self, request: httpx.Request) -> h11.Response:
        """Send a whole request, its body read before, and read the head of its answer.

        Raises:
            _UnansweredError: the connection ended before the answer began.
            httpx.TransportError: as `next_event`, or a header is no HTTP.
        """
        self._is_answered = False
        try:
            head = h11.Request(
                method=request.method, target=request.url.raw_path, headers=request.headers.raw
            )
        except h11.LocalProtocolError as error:
            raise httpx.LocalProtocolError(str(error)) from error
        for event in (head, h11.Data(request.content), h11.EndOfMessage()):
            self._writer.write(self._parser.send(event) or b"")
        try:
            while not isinstance(event := await self.next_event(), h11.Response):
                pass  # an informational answer comes before the real one
        except (httpx.ReadError, httpx.RemoteProtocolError) as error:
            if self._is_answered:
                raise
            raise _UnansweredError("The server closed the connection unanswered.") from error
        return event

    async def next_event(self) -> Any:
        """The parser's next event.

        Raises:
            httpx.TransportError: the connection broke or fell silent, or what came is not HTTP.
        """
        try:
            while (event := self._parser.next_event()) is h11.NEED_DATA:
                self._parser.receive_data(await self._read())
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError(str(error)) from error
        except OSError as error:
            raise httpx.ReadError(f"The connection broke: {error}.") from error
        return event

    async def _read(self) -> bytes:
        timer = asyncio.get_running_loop().call_later(self._timeout, self._expire)
        try:
            data = await self._reader.read(READ_BYTES)
        finally:
            timer.cancel()
        if self._expired:
            raise httpx.ReadTimeout(f"Nothing came for {self._timeout:g} s")
        self._is_answered |= bool(data)
        return data

    def _expire(self) -> None:
        self._expired = True
        self._writer.transport.abort()

    def reuse(self) -> bool:
        """Make ready for another request; False where the last one forbids it."""
        if {self._parser.our_state, self._parser.their_state} != {h11.DONE}:
            return False
        self._parser.start_next_cycle()
        return True

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):  # the server broke it off
            await self._writer.wait_closed()


class _Body(httpx.AsyncByteStream):
    """The answer's body as it comes."""

    def __init__(self, connection: _Connection, idle: list[_Connection]) -> None:
        self._connection = connection
        self._idle = idle

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while isinstance(event := await self._connection.next_event(), h11.Data):
            yield bytes(event.data)

    async def aclose(self) -> None:
        if self._connection.reuse():
            self._idle.append(self._connection)
        else:
            await self._connection.close()


async def _connect(url: httpx.URL, timeout: float) -> _Connection:
    encrypted = url.scheme == "https"
    opening = asyncio.open_connection(
        url.host,
        url.port or (443 if encrypted else 80),
        ssl=httpx.create_ssl_context() if encrypted else None,
    )
    try:
        reader, writer = await asyncio.wait_for(opening, timeout)
    except (OSError, asyncio.TimeoutError) as error:
        raise httpx.ConnectError(f"No connection to {url.netloc.decode()}: {error}") from error
    return _Connection(reader, writer, timeout)
