"""HTTP/1.1 connections whose patience ends: what uvicorn leaves to a proxy in front of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from vivace.serve.errors import ApiError, error_body


@dataclass(frozen=True)
class Patience:
    """Seconds until a client is cut off.

    Attributes:
        sender: for all of a request, its body too.
        reader: while what was sent to it is not taken.
    """

    sender: float
    reader: float


class Connection(H11Protocol):
    """One client's connection. Whoever is cut off has left, as far as its request is concerned."""

    def __init__(self, *arguments: Any, patience: Patience, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._receiving = _Limit(patience.sender)
        self._sending = _Limit(patience.reader)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._receiving.stop()
        self._sending.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.trailing_data[0]:  # the next request has begun
            self._expect_request()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._sending.start(self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._sending.stop()

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP; where an answer has begun, nothing can be said any more."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        error = ApiError(400, "This is not a valid HTTP/1.1 request.", code="invalid_http")
        body = json.dumps(error_body(error)).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _expect_request(self) -> None:
        """Time a request from its first byte, or from the connection, to its last."""
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._receiving.start(self.transport.abort)
        else:
            self._receiving.stop()


class _Limit:
    """A time limit, which may be started again after it was stopped."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def start(self, action: Callable[[], None]) -> None:
        """Act when it is over; where it runs already, nothing changes."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, action)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
