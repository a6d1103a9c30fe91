"""What administrators may do; gate.py asks for their key."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from vivace.core.errors import RequestError
from vivace.serve.bodies import BodyReader, read_body
from vivace.serve.errors import ApiError
from vivace.serve.openapi import answers, takes
from vivace.serve.schemas import AbortBody


def router(reader: BodyReader) -> APIRouter:
    routes = APIRouter(tags=["admin"])
    models = reader.models

    @routes.post("/abort_request", **takes(AbortBody, 403))
    async def abort(http: Request) -> dict[str, int]:
        """End a call by the id of its answer, or all calls: what they have is their answer."""
        body = await read_body(http, AbortBody, reader.max_bytes)
        if (body.request_id is None) == (not body.abort_all):
            raise RequestError("Give either request_id or abort_all.", "request_id")
        if body.request_id is None:
            return {"aborted": sum([await one.generation.abort_all() for one in models.loaded])}
        ended = [await one.generation.abort(body.request_id) for one in models.loaded]
        aborted = sum(ended)
        if not aborted:
            raise ApiError(404, f"{body.request_id!r} does not run.", "request_id")
        return {"aborted": aborted}

    @routes.post("/reset_prefix_cache", **answers(403, 503))
    async def reset_prefix_cache() -> dict[str, bool]:
        """Forget every computed prefix, in all tiers, but those in use or pinned."""
        for served in models.loaded:
            await served.generation.reset_prefix_cache()
        return {"reset": True}

    @routes.post("/drain", **answers(403))
    async def drain() -> dict[str, Any]:
        """Take no further calls, and say how many requests are left; asked again, say it anew."""
        models.doors.draining = True
        return {"draining": True, "running": models.running}

    @routes.post("/resume", **answers(403))
    async def resume() -> dict[str, Any]:
        """Take calls again after a drain."""
        models.doors.draining = False
        return {"draining": False, "running": models.running}

    return routes
