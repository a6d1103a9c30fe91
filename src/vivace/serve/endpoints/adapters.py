"""LoRA adapters by call, as in vLLM; gate.py asks for the administrators' key."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from vivace.core.errors import RequestError
from vivace.serve.bodies import BodyReader
from vivace.serve.openapi import takes
from vivace.serve.schemas import LoadAdapterBody, UnloadAdapterBody


def router(reader: BodyReader) -> APIRouter:
    routes = APIRouter(prefix="/v1", tags=["admin"])

    @routes.post("/load_lora_adapter", response_model=None, **takes(LoadAdapterBody, 403))
    async def load(http: Request) -> Response:
        """Load an adapter from a folder of this machine; its name is a model's from then on."""
        body, served = await reader.read(http, LoadAdapterBody)
        if body.lora_name in reader.models.names:
            raise RequestError(
                f"The name {body.lora_name!r} is taken; unload that adapter first, or take another "
                "name.",
                "lora_name",
            )
        await served.names.load_adapter(body.lora_name, body.lora_path)
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")

    @routes.post("/unload_lora_adapter", response_model=None, **takes(UnloadAdapterBody, 403))
    async def unload(http: Request) -> Response:
        """Take no further calls for an adapter; those that have begun are answered."""
        body, served = await reader.read(http, UnloadAdapterBody)
        await served.names.unload_adapter(body.lora_name)
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")

    return routes
