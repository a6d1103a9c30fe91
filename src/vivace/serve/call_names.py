"""What a call is called: in the id of its answer, in the header X-Request-Id, and to abort it."""

from __future__ import annotations

import re
from uuid import uuid4

from starlette.datastructures import Headers
from starlette.requests import Request

from vivace.core.errors import RequestError
from vivace.serve.errors import ApiError

HEADER = "x-request-id"
_NAME = re.compile(r"[!-~]{1,128}")


def named_by(headers: Headers) -> str:
    """The caller's own name for the call, or a new one.

    Raises:
        ApiError: 400 for one that no header may repeat.
    """
    name = headers.get(HEADER)
    if name is not None and _NAME.fullmatch(name) is None:
        message = "X-Request-Id must be 1 to 128 visible ASCII characters."
        raise ApiError(400, message, "request_id", "invalid_value")
    return name or uuid4().hex


def call_name(http: Request, asked: str | None) -> str:
    """The name of a call whose body may ask for one.

    Raises:
        RequestError: the header asks for another.
    """
    if asked is not None:
        if http.headers.get(HEADER, asked) != asked:
            raise RequestError(
                "request_id and the header X-Request-Id differ; send one of them.", "request_id"
            )
        http.state.call_name = asked
    name: str = http.state.call_name
    return name
