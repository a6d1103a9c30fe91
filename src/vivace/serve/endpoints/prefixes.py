"""Prefixes that are computed ahead, and pinned."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from vivace.serve.bodies import BodyReader
from vivace.serve.openapi import answers, takes
from vivace.serve.prefetch import Prefetcher
from vivace.serve.schemas import PrefetchBody


def router(reader: BodyReader, prefetcher: Prefetcher) -> APIRouter:
    routes = APIRouter(prefix="/v1/prefetch", tags=["prefixes"])

    @routes.post("", response_model=None, **takes(PrefetchBody))
    async def prefetch(http: Request) -> Response:
        """Compute a prefix behind everything else, and pin it if asked to."""
        return await prefetcher.prefetch(http, await reader.read(http, PrefetchBody))

    @routes.delete("/{pin_id}", response_model=None, **answers(404))
    async def unpin(pin_id: str) -> Response:
        """Let a pinned prefix be evicted again."""
        return await prefetcher.unpin(pin_id)

    return routes
