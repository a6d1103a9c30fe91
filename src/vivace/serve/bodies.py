"""From bytes on the wire to a checked request body; whatever is wrong becomes one sentence."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json
from starlette.requests import Request

from vivace.serve.errors import ApiError
from vivace.serve.models import Models
from vivace.serve.schemas import ModelBody
from vivace.serve.served import Served
from vivace.serve.strict import Body
from vivace.serve.turn_schemas import NEUTRAL_IN_MESSAGE

BodyT = TypeVar("BodyT", bound=ModelBody)

MAX_SHOWN = 80  # characters of an offending value in a message


@dataclass(frozen=True)
class BodyReader:
    """Reads the bodies of calls.

    Attributes:
        models: that they may ask for.
        max_bytes: larger bodies are refused.
    """

    models: Models
    max_bytes: int

    async def read(self, request: Request, kind: type[BodyT]) -> tuple[BodyT, Served]:
        """A body, and the model that it asks for, which stays loaded until the call is answered
        to its end (leases.py).

        Raises:
            As `read_body` and `Models.lend`.
        """
        body = await read_body(request, kind, self.max_bytes)
        served, give_back = await self.models.lend(body.model)
        request.state.leases.callback(give_back)
        return body, served


async def read_body(request: Request, kind: type[BodyT], max_bytes: int) -> BodyT:
    """The request's body, read and checked.

    Raises:
        ApiError: 413 for a body over `max_bytes`, of which no more than that is held; 400 for
            anything else that is wrong with it.
        ClientDisconnect: the client left while sending.
    """
    return parse_body(await _read(request, max_bytes), kind)


def parse_body(data: bytes, kind: type[BodyT]) -> BodyT:
    """Raises ApiError (400), with a sentence that names the parameter at fault."""
    try:
        fields = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        message = f"The body is not valid JSON in UTF-8: {error}."
        raise ApiError(400, message, code="invalid_json") from None
    if not isinstance(fields, dict):
        raise ApiError(400, "The body must be a JSON object.", code="invalid_json")
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        # Of a union's several complaints, the one that got furthest says most.
        details = error.errors(include_url=False, include_context=False)
        raise _as_sentence(max(details, key=lambda one: len(one["loc"])), kind) from None


async def _read(request: Request, max_bytes: int) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(data)


def _too_large(max_bytes: int) -> ApiError:
    message = f"The body is larger than the {max_bytes} bytes that this server takes."
    return ApiError(413, message, code="request_too_large")


def _as_sentence(error: ErrorDetails, kind: type[Body]) -> ApiError:
    name = str(error["loc"][0])
    where = ".".join(str(part) for part in error["loc"] if not _is_union_branch(part))
    known = kind.model_fields.get(name)
    if error["type"] == "extra_forbidden":
        message = f"{where} is not a parameter that this server supports."
    elif error["type"] == "missing":
        message = f"{where} is required."
    elif known is not None and known.description is not None:
        message = f"{name} must be {known.description}."
    else:
        rule = error["msg"][:1].lower() + error["msg"][1:]
        message = f"{where}: {rule}, got {_shown(error['input'])}."
    return ApiError(400, message, name, _code(error, kind))


def _code(error: ErrorDetails, kind: type[Body]) -> str:
    """OpenAI's word for what is wrong."""
    if error["type"] == "missing":
        return "missing_required_parameter"
    if error["type"] == "extra_forbidden":
        known = error["loc"][-1] in {*kind.neutral, *NEUTRAL_IN_MESSAGE}
        return "unsupported_parameter" if known else "unknown_parameter"
    return "invalid_type" if error["type"].endswith("_type") else "invalid_value"


def _is_union_branch(part: int | str) -> bool:
    return part == "str" or "[" in str(part)


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
