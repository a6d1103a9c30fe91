"""A line for each request that ended, and for each call that was refused. Neither holds a word of
prompts or answers."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vivace.serve.gate import OPEN
from vivace.serve.logs import log
from vivace.serve.watch import FinishedRequest

_REFUSED = 400


def log_finished(one: FinishedRequest) -> None:
    """A request ended: counts of tokens, and times in seconds."""
    request = one.request
    log(
        logging.WARNING if one.reason == "error" else logging.INFO,
        "request finished",
        {
            "request_id": request.request_id,
            "finish_reason": one.reason,
            "error": one.error,
            "prompt_tokens": len(request.prompt_token_ids),
            "cached_tokens": one.num_cached_tokens,
            "completion_tokens": one.num_tokens,
            "preemptions": one.num_preemptions,
            "priority": request.priority,
            "tenant": request.tenant or None,
            "queue_seconds": _rounded(one.queued),
            "first_token_seconds": _rounded(one.first),
            "total_seconds": _rounded(one.e2e),
        },
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


class RefusedCalls:
    """ASGI middleware that logs calls whose answer is an error."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        started = time.monotonic()

        async def send_seen(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= _REFUSED:
                _log_refused(scope, message["status"], time.monotonic() - started)
            await send(message)

        await self._app(scope, receive, send_seen)


def _log_refused(scope: Scope, status: int, seconds: float) -> None:
    log(
        logging.WARNING if status >= 500 else logging.INFO,
        "call refused",
        {
            "request_id": scope.get("state", {}).get("call_name"),
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "total_seconds": _rounded(seconds),
        },
    )
