"""Text to token ids and back, as in vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request

from vivace.core.errors import RequestError
from vivace.serve.bodies import BodyReader
from vivace.serve.openapi import takes
from vivace.serve.schemas import DetokenizeBody, TokenizeBody
from vivace.serve.served import Served


def router(reader: BodyReader) -> APIRouter:
    routes = APIRouter(tags=["tokens"])

    @routes.post("/tokenize", **takes(TokenizeBody))
    async def tokenize(http: Request) -> dict[str, Any]:
        """The token ids of a text, or of a conversation as the model would see it."""
        body, served = await reader.read(http, TokenizeBody)
        tokens = await served.prompts.tokenize(body)
        _check_known(tokens, served, "prompt")
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
        _check_known(body.tokens, served, "tokens")
        return {"prompt": await served.prompts.text(body.tokens)}

    return routes


def _check_known(token_ids: Sequence[int], served: Served, name: str) -> None:
    """Raises RequestError where the model has no such tokens."""
    size = served.engine.info.vocab_size
    if not all(0 <= token < size for token in token_ids):
        raise RequestError(f"{name} has an id outside 0 to {size - 1}.", name)
