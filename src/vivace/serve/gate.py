"""What every call passes first: it gets its name, and its caller is known and held to his limits
until the last byte of the answer is sent."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vivace.serve.call_names import HEADER, named_by
from vivace.serve.errors import ApiError, error_answer
from vivace.serve.keys import Caller, KeyRing, Meter

OPEN = frozenset({"/health", "/ready", "/metrics", "/version", "/openapi.json"})
ADMIN = frozenset(
    {
        "/abort_request",
        "/drain",
        "/reset_prefix_cache",
        "/resume",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
    }
)
_ANYBODY = Caller("")


class Gate:
    """ASGI middleware. Every path needs a key that is not `OPEN`, known or not; that of `ADMIN`
    paths is the administrators'.

    Args:
        also_open: paths that need none either.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing, also_open: Iterable[str] = ()) -> None:
        self._app = app
        self._keys = keys
        self._open = OPEN.union(also_open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["call_name"] = uuid4().hex

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = state["call_name"]
            await send(message)

        try:
            state["caller"], meter = self._enter(scope)
        except ApiError as error:
            await error_answer(scope["path"], error)(scope, receive, send_named)
            return
        try:
            await self._app(scope, receive, send_named)
        finally:
            meter.leave()

    def _enter(self, scope: Scope) -> tuple[Caller, Meter]:
        """Raises ApiError for whom it does not let in."""
        headers = Headers(scope=scope)
        scope["state"]["call_name"] = named_by(headers)
        caller = self._admit(scope["path"], headers)
        meter = self._keys.meter(caller)
        meter.enter()
        return caller, meter

    def _admit(self, path: str, headers: Headers) -> Caller:
        if path in self._open:
            return _ANYBODY
        if path not in ADMIN:
            return self._keys.caller(headers)
        self._keys.check_admin(headers)
        return Caller("admin")
