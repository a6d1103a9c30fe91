"""Text to token ids and back, as in vLLM."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from vivace.core.errors import RequestError
from vivace.core.stats import EngineInfo
from vivace.serve.bodies import BodyReader
from vivace.serve.openapi import takes
from vivace.serve.prompts import Prompts
from vivace.serve.schemas import DetokenizeBody, TokenizeBody


def router(reader: BodyReader, prompts: Prompts, info: EngineInfo) -> APIRouter:
    routes = APIRouter(tags=["tokens"])

    @routes.post("/tokenize", **takes(TokenizeBody))
    async def tokenize(http: Request) -> dict[str, Any]:
        """The token ids of a text, or of a conversation as the model would see it."""
        body = await reader.read(http, TokenizeBody)
        tokens = await prompts.tokenize(body)
        return {
            "count": len(tokens),
            "max_model_len": info.max_model_len,
            "tokens": tokens,
            "token_strs": prompts.token_texts(tokens) if body.return_token_strs else None,
        }

    @routes.post("/detokenize", **takes(DetokenizeBody))
    async def detokenize(http: Request) -> dict[str, str]:
        """The text of token ids, special tokens included."""
        body = await reader.read(http, DetokenizeBody)
        if not all(0 <= token < info.vocab_size for token in body.tokens):
            raise RequestError(f"tokens has an id outside 0 to {info.vocab_size - 1}.", "tokens")
        return {"prompt": await prompts.text(body.tokens)}

    return routes
