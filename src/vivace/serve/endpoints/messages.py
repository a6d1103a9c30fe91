"""Calls in the words of Anthropic's clients."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from vivace.serve.bodies import BodyReader
from vivace.serve.message_schemas import ConversationBody, MessagesBody
from vivace.serve.message_turns import as_chat
from vivace.serve.messages import ID_PREFIX, MessageFormat
from vivace.serve.openapi import AnthropicErrorAnswer, takes


def router(reader: BodyReader) -> APIRouter:
    routes = APIRouter(prefix="/v1/messages", tags=["generate"])

    @routes.post(
        "", response_model=None, **takes(MessagesBody, streams=True, error=AnthropicErrorAnswer)
    )
    async def messages(http: Request) -> Response:
        """Answer a conversation."""
        body, served = await reader.read(http, MessagesBody)
        return await served.answerer.chat(http, as_chat(body), MessageFormat, ID_PREFIX)

    @routes.post("/count_tokens", **takes(ConversationBody, error=AnthropicErrorAnswer))
    async def count_tokens(http: Request) -> dict[str, int]:
        """How many tokens a conversation takes."""
        body, served = await reader.read(http, ConversationBody)
        return {"input_tokens": len(await served.prompts.chat(as_chat(body)))}

    return routes
