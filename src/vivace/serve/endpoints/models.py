"""What is served here."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter

from vivace.core.stats import EngineInfo
from vivace.serve.bodies import BodyReader
from vivace.serve.openapi import answers


def router(reader: BodyReader, info: EngineInfo) -> APIRouter:
    routes = APIRouter(prefix="/v1/models", tags=["models"])
    card = {
        "id": reader.model_name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "vivace",
        "max_model_len": info.max_model_len,
        "dtype": info.dtype,
        "quantization": info.quantization,
    }

    @routes.get("", **answers())
    async def models() -> dict[str, Any]:
        """Every model that is served."""
        return {"object": "list", "data": [card]}

    @routes.get("/{model:path}", **answers(404))
    async def model(model: str) -> dict[str, Any]:
        """One model."""
        reader.check_model(model)
        return card

    return routes
