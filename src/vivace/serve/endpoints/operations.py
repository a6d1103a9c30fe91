"""What those ask who run the server: is it alive, is it ready, how is it doing."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from vivace.core.errors import VivaceError
from vivace.core.stats import EngineStats
from vivace.serve.bodies import BodyReader
from vivace.serve.canary import Canary
from vivace.serve.generation import Generation
from vivace.serve.interfaces import Engine
from vivace.serve.liveness import Liveness
from vivace.serve.metrics import ServerMetrics
from vivace.serve.openapi import answers
from vivace.serve.version import vivace_version

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATS_SECONDS = 5.0  # an engine that is longer silent is left out


def router(
    engine: Engine,
    generation: Generation,
    liveness: Liveness,
    metrics: ServerMetrics,
    canary: Canary,
) -> APIRouter:
    routes = APIRouter(tags=["operations"])

    @routes.get("/health", **answers(503))
    async def health() -> dict[str, str]:
        """Whether the engine computes: it produced a token lately, or does so now."""
        await liveness.check()
        return {"status": "ok"}

    @routes.get("/ready", **answers(503))
    async def ready() -> dict[str, str]:
        """Whether the server takes calls: it is healthy, and neither stops nor drains."""
        generation.check_open()
        canary.check_ready()
        await liveness.check()
        return {"status": "ready"}

    @routes.get("/metrics", response_model=None, **answers())
    async def scrape() -> Response:
        """Prometheus text."""
        return Response(metrics.render(await _stats(engine)), media_type=METRICS_TYPE)

    @routes.get("/version", **answers())
    async def version() -> dict[str, str]:
        """The version of vivace."""
        return {"version": vivace_version()}

    return routes


def inside(engine: Engine, generation: Generation, reader: BodyReader) -> APIRouter:
    """What is not for everybody."""
    routes = APIRouter(tags=["operations"])

    @routes.get("/server_info", **answers())
    async def server_info() -> dict[str, Any]:
        """What was loaded, with which limits, and how it is doing; `engine` is null where the
        engine does not answer."""
        stats = await _stats(engine)
        model = asdict(engine.info)
        del model["folder"]
        return {
            "version": vivace_version(),
            "served_model_name": reader.model_name,
            "max_body_bytes": reader.max_bytes,
            "draining": generation.draining,
            "model": model,
            "engine": None if stats is None else _numbers(stats),
        }

    return routes


def _numbers(stats: EngineStats) -> dict[str, Any]:
    """Without histograms, which are for /metrics."""
    return {
        name: value
        for name, value in asdict(stats).items()
        if name not in ("step_sizes", "page_ages")
    }


async def _stats(engine: Engine) -> EngineStats | None:
    """None where the engine cannot be asked."""
    try:
        return await asyncio.wait_for(engine.stats(), STATS_SECONDS)
    except (VivaceError, asyncio.TimeoutError):
        return None
