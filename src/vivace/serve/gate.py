"""What every call passes first: it knows its caller, and holds him to his limits until the last byte
of the answer is sent."""

from __future__ import annotations

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vivace.serve.errors import ApiError, error_body
from vivace.serve.keys import Caller, KeyRing

OPEN = frozenset({"/health", "/ready", "/metrics", "/version", "/openapi.json"})
ADMIN = frozenset({"/abort_request", "/reset_prefix_cache", "/drain", "/resume"})


class Gate:
    """ASGI middleware. Every path needs a key that is not `OPEN`, known or not; that of `ADMIN`
    paths is the administrators'."""

    def __init__(self, app: ASGIApp, keys: KeyRing) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        try:
            caller = self._admit(scope)
            meter = self._keys.meter(caller)
            meter.enter()
        except ApiError as error:
            refusal = JSONResponse(error_body(error), error.status, headers=error.headers)
            await refusal(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        try:
            await self._app(scope, receive, send)
        finally:
            meter.leave()

    def _admit(self, scope: Scope) -> Caller:
        headers = Headers(scope=scope)
        if scope["path"] not in ADMIN:
            return self._keys.caller(headers)
        self._keys.check_admin(headers)
        return Caller("admin")
