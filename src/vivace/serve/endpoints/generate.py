"""Calls that are answered with generated text."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from vivace.serve.bodies import BodyReader
from vivace.serve.openapi import takes
from vivace.serve.schemas import ChatBody, CompletionBody


def router(reader: BodyReader) -> APIRouter:
    routes = APIRouter(prefix="/v1", tags=["generate"])

    @routes.post("/completions", response_model=None, **takes(CompletionBody, streams=True))
    async def complete(http: Request) -> Response:
        """Continue one or several prompts."""
        body, served = await reader.read(http, CompletionBody)
        return await served.answerer.completion(http, body)

    @routes.post("/chat/completions", response_model=None, **takes(ChatBody, streams=True))
    async def chat(http: Request) -> Response:
        """Answer a conversation."""
        body, served = await reader.read(http, ChatBody)
        return await served.answerer.chat(http, body)

    return routes
