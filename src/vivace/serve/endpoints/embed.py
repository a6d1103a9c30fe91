"""Calls that are answered with vectors, or with what follows from them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from vivace.serve.bodies import BodyReader
from vivace.serve.embeddings import Embedder
from vivace.serve.openapi import takes
from vivace.serve.schemas import EmbeddingBody, RerankBody, ScoreBody


def router(reader: BodyReader, embedder: Embedder) -> APIRouter:
    routes = APIRouter(tags=["embeddings"])

    @routes.post("/v1/embeddings", **takes(EmbeddingBody))
    async def embed(http: Request) -> dict[str, Any]:
        """A vector for each text."""
        return await embedder.embeddings(http, await reader.read(http, EmbeddingBody))

    @routes.post("/score", **takes(ScoreBody))
    @routes.post("/v1/score", **takes(ScoreBody))
    async def score(http: Request) -> dict[str, Any]:
        """How near pairs of texts are."""
        return await embedder.score(http, await reader.read(http, ScoreBody))

    @routes.post("/rerank", **takes(RerankBody))
    @routes.post("/v1/rerank", **takes(RerankBody))
    async def rerank(http: Request) -> dict[str, Any]:
        """Documents, the nearest to the query first."""
        return await embedder.rerank(http, await reader.read(http, RerankBody))

    return routes
