"""What is served here."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from vivace.serve.bodies import BodyReader
from vivace.serve.openapi import answers


def router(reader: BodyReader) -> APIRouter:
    routes = APIRouter(prefix="/v1/models", tags=["models"])

    @routes.get("", **answers())
    async def models() -> dict[str, Any]:
        """Every model that is served, and every adapter."""
        return {"object": "list", "data": reader.models.cards()}

    @routes.get("/{model:path}", **answers(404))
    async def model(model: str) -> dict[str, Any]:
        """One model."""
        return reader.models.card(model)

    return routes
