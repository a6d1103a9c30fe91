"""Every failure as OpenAI's error object, under the right HTTP status."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from vivace.core.errors import CapacityError, RequestError, VivaceError

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable_error",
}
ANTHROPIC = "/v1/messages"
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
}
ENGINE_UNAVAILABLE = "engine_unavailable"
RESTART_SECONDS = 5  # about what an engine takes to come back
CLIENT_CLOSED_REQUEST = 499  # nginx's number; nobody is left to read it


class ApiError(Exception):
    """What a client is told.

    Attributes:
        status: the HTTP status.
        param: the offending parameter, when there is one.
        code: a name for programs, such as "model_not_found".
        headers: sent along, where the answer has not begun.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = headers


def overloaded(message: str, retry_after_seconds: float) -> ApiError:
    """The queue is full. Retry-After is whole seconds (RFC 9110, 10.2.3)."""
    seconds = max(1, math.ceil(retry_after_seconds))
    return ApiError(429, message, code="engine_overloaded", headers={"retry-after": str(seconds)})


def unavailable(message: str) -> ApiError:
    """The engine is gone; another is being started."""
    headers = {"retry-after": str(RESTART_SECONDS)}
    return ApiError(503, message, code=ENGINE_UNAVAILABLE, headers=headers)


def limited(message: str, retry_after_seconds: float) -> ApiError:
    """A caller's own limit is reached."""
    seconds = max(1, math.ceil(retry_after_seconds))
    headers = {"retry-after": str(seconds)}
    return ApiError(429, message, code="rate_limit_exceeded", headers=headers)


def error_body(error: ApiError) -> dict[str, Any]:
    """OpenAI's error object."""
    return {
        "error": {
            "message": str(error),
            "type": TYPES.get(error.status, "invalid_request_error"),
            "param": error.param,
            "code": error.code,
        }
    }


def anthropic_error_body(error: ApiError) -> dict[str, Any]:
    """Anthropic's error object, without its own type."""
    kind = _ANTHROPIC_TYPES.get(error.status, "invalid_request_error")
    return {"error": {"type": kind, "message": str(error)}}


def error_answer(path: str, error: ApiError) -> Response:
    """The error in the words of the API that the path belongs to."""
    if path.startswith(ANTHROPIC):
        body = {"type": "error", **anthropic_error_body(error)}
    else:
        body = error_body(error)
    return JSONResponse(body, error.status, headers=error.headers)


def as_api_error(error: Exception) -> ApiError:
    """What a client may know of any exception."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestError):
        return ApiError(400, str(error), error.param, error.code)
    if isinstance(error, CapacityError):
        return ApiError(503, str(error), code="no_capacity")
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, f"{error.detail}.", headers=error.headers)
    if isinstance(error, VivaceError):
        return ApiError(500, str(error))
    return ApiError(500, "The server failed on this request; its log says why.")


def install_handlers(app: FastAPI) -> None:
    """Answer every exception with an error object."""
    for kind in (ApiError, VivaceError, HTTPException, Exception):
        app.add_exception_handler(kind, _answer)
    app.add_exception_handler(ClientDisconnect, _nobody)


async def _answer(request: Request, error: Exception) -> Response:
    return error_answer(request.url.path, as_api_error(error))


async def _nobody(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)
