"""The OpenAPI document. Bodies are read by hand (bodies.py), so their schemas are put in here."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.responses import Response

from vivace.serve.strict import Body

SCHEMAS = "x-schemas"  # of a route's body, until they stand in the document's components
REF = "#/components/schemas/{model}"
# Before OpenAPI 3.2, which has a word for it, the schema of a stream is that of each event.
EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}
WHY = {
    400: "A parameter is wrong or not supported; `param` names it.",
    401: "The key is missing or wrong.",
    403: "Administrators have no key here.",
    404: "There is no such thing.",
    413: "The body is too large.",
    429: "Too much at once; `Retry-After` says when to come back.",
    500: "The server failed on this request.",
    503: "The engine is gone, or the server is stopping.",
}


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """OpenAI's error object."""

    error: ErrorDetail


class AnthropicErrorDetail(BaseModel):
    type: str
    message: str


class AnthropicErrorAnswer(BaseModel):
    """Anthropic's error object."""

    type: Literal["error"]
    error: AnthropicErrorDetail


def answers(*statuses: int, error: type[BaseModel] = ErrorAnswer) -> dict[str, Any]:
    """Keywords for a route that may refuse with these, beside what any call may get."""
    every = sorted({*statuses, 401, 429, 500})
    return {"responses": {s: {"model": error, "description": WHY[s]} for s in every}}


def takes(
    kind: type[Body],
    *statuses: int,
    streams: bool = False,
    error: type[BaseModel] = ErrorAnswer,
) -> dict[str, Any]:
    """Keywords for a route with a JSON body that may refuse with these, too."""
    schema = kind.model_json_schema(ref_template=REF)
    schemas = {**schema.pop("$defs", {}), kind.__name__: schema}
    named = {"$ref": REF.format(model=kind.__name__)}
    body = {"required": True, "content": {"application/json": {"schema": named}}}
    keywords = answers(400, 404, 413, 503, *statuses, error=error)
    if streams:
        content = {"text/event-stream": {"schema": EVENT}}
        keywords["responses"][200] = {"description": "Whole, or streamed.", "content": content}
    return {**keywords, "openapi_extra": {"requestBody": body, SCHEMAS: schemas}}


def plain(keywords: dict[str, Any]) -> dict[str, Any]:
    """Keywords for the same route where what goes well is told as text; errors are JSON still."""
    content = {"text/plain": {"schema": {"type": "string"}}}
    keywords["responses"][200] = {"description": "As text.", "content": content}
    return {**keywords, "response_class": Response, "response_model": None}


def install_schema(app: FastAPI) -> None:
    """Have the application's document say what bodies hold."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schemas = document["components"]["schemas"]
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)  # FastAPI's own; nothing answers so
            schemas |= operation.pop(SCHEMAS, {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document
