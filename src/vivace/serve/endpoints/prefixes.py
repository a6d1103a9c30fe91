"""Prefixes that are computed ahead, and pinned."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from vivace.serve.bodies import BodyReader
from vivace.serve.errors import ApiError
from vivace.serve.openapi import answers, takes
from vivace.serve.schemas import PrefetchBody


def router(reader: BodyReader) -> APIRouter:
    routes = APIRouter(prefix="/v1/prefetch", tags=["prefixes"])

    @routes.post("", response_model=None, **takes(PrefetchBody))
    async def prefetch(http: Request) -> Response:
        """Compute a prefix behind everything else, and pin it if asked to."""
        body, served = await reader.read(http, PrefetchBody)
        return await served.prefetcher.prefetch(http, body)

    @routes.delete("/{pin_id}", response_model=None, **answers(404, 503))
    async def unpin(pin_id: str) -> Response:
        """Let a pinned prefix be evicted again."""
        for served in reader.models.loaded:
            if await served.generation.unpin(pin_id):
                return JSONResponse({"id": pin_id, "object": "prefetch", "deleted": True})
        raise ApiError(404, f"Nothing is pinned as {pin_id!r}.", "id", "pin_not_found")

    return routes
