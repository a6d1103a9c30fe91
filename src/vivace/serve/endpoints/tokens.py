"""Text to token ids and back, as in vLLM."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from vivace.core.errors import RequestError
from vivace.serve.bodies import BodyReader
from vivace.serve.openapi import takes
from vivace.serve.schemas import DetokenizeBody, TokenizeBody


def router(reader: BodyReader) -> APIRouter:
    routes = APIRouter(tags=["tokens"])

    @routes.post("/tokenize", **takes(TokenizeBody))
    async def tokenize(http: Request) -> dict[str, Any]:
        """The token ids of a text, or of a conversation as the model would see it."""
        body, served = await reader.read(http, TokenizeBody)
        tokens = await served.prompts.tokenize(body)
        return {
            "count": len(tokens),
            "max_model_len": served.engine.info.max_model_len,
            "tokens": tokens,
            "token_strs": served.prompts.token_texts(tokens) if body.return_token_strs else None,
        }

    @routes.post("/detokenize", **takes(DetokenizeBody))
    async def detokenize(http: Request) -> dict[str, str]:
        """The text of token ids, special tokens included."""
        body, served = await reader.read(http, DetokenizeBody)
        size = served.engine.info.vocab_size
        if not all(0 <= token < size for token in body.tokens):
            raise RequestError(f"tokens has an id outside 0 to {size - 1}.", "tokens")
        return {"prompt": await served.prompts.text(body.tokens)}

    return routes
