"""Calls that are answered with vectors, or with what follows from them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from vivace.serve.bodies import BodyReader
from vivace.serve.openapi import takes
from vivace.serve.schemas import EmbeddingBody, RerankBody, ScoreBody


def router(reader: BodyReader) -> APIRouter:
    routes = APIRouter(tags=["embeddings"])

    @routes.post("/v1/embeddings", **takes(EmbeddingBody))
    async def embed(http: Request) -> dict[str, Any]:
        """A vector for each text."""
        body, served = await reader.read(http, EmbeddingBody)
        return await served.embedder.embeddings(http, body)

    @routes.post("/score", **takes(ScoreBody))
    @routes.post("/v1/score", **takes(ScoreBody))
    async def score(http: Request) -> dict[str, Any]:
        """How near pairs of texts are."""
        body, served = await reader.read(http, ScoreBody)
        return await served.embedder.score(http, body)

    @routes.post("/rerank", **takes(RerankBody))
    @routes.post("/v1/rerank", **takes(RerankBody))
    async def rerank(http: Request) -> dict[str, Any]:
        """Documents, the nearest to the query first."""
        body, served = await reader.read(http, RerankBody)
        return await served.embedder.rerank(http, body)

    return routes
