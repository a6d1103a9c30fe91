"""OpenAI's newer way to ask for an answer."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from vivace.serve.bodies import BodyReader
from vivace.serve.openapi import takes
from vivace.serve.prompts import called
from vivace.serve.response_schemas import ResponsesBody
from vivace.serve.response_turns import as_chat
from vivace.serve.responses import ID_PREFIX, ResponseFormat


def router(reader: BodyReader) -> APIRouter:
    routes = APIRouter(prefix="/v1/responses", tags=["generate"])

    @routes.post("", response_model=None, **takes(ResponsesBody, streams=True))
    async def respond(http: Request) -> Response:
        """Answer a text or a conversation."""
        body, served = await reader.read(http, ResponsesBody)
        make = partial(ResponseFormat, body=body)
        with called(messages="input", max_tokens="max_output_tokens"):
            return await served.answerer.chat(http, as_chat(body), make, ID_PREFIX)

    return routes
