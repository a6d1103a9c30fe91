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
from vivace.serve.errors import ApiError
from vivace.serve.exposition import loaded_models, merged
from vivace.serve.interfaces import Engine
from vivace.serve.models import Models
from vivace.serve.openapi import answers, plain
from vivace.serve.process_metrics import ProcessMetrics
from vivace.serve.served import Served
from vivace.serve.version import vivace_version

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATS_SECONDS = 5.0  # an engine that is longer silent is left out


def router(models: Models) -> APIRouter:
    routes = APIRouter(tags=["operations"])
    process = ProcessMetrics()

    @routes.get("/health", **answers(503))
    async def health() -> dict[str, str]:
        """Whether the engines compute: each produced a token lately, or does so now."""
        await _check_alive(models)
        return {"status": "ok"}

    @routes.get("/ready", **answers(503))
    async def ready() -> dict[str, str]:
        """Whether the server takes calls: it is healthy, and neither stops nor drains."""
        models.doors.check_open()
        for served in models.loaded:
            served.canary.check_ready()
        await _check_alive(models)
        return {"status": "ready"}

    @routes.get("/metrics", **plain(answers()))
    async def scrape() -> Response:
        """Prometheus text."""
        loaded = models.loaded
        stats = await asyncio.gather(*(_stats(served.engine) for served in loaded))
        told = [served.metrics.render(one) for served, one in zip(loaded, stats, strict=True)]
        told += [process.render(), loaded_models(models.states)]
        return Response(merged(told), media_type=METRICS_TYPE)

    @routes.get("/version", **answers())
    async def version() -> dict[str, str]:
        """The version of vivace."""
        return {"version": vivace_version()}

    return routes


def inside(reader: BodyReader) -> APIRouter:
    """What is not for everybody."""
    routes = APIRouter(tags=["operations"])
    models = reader.models

    @routes.get("/server_info", **answers())
    async def server_info() -> dict[str, Any]:
        """What was loaded, with which limits, and how it is doing: of the first model, and of all
        that are loaded by name. `model` is null where it is not loaded, `engine` where the engine
        does not answer."""
        found = {served.names.model: await _told(served.engine) for served in models.loaded}
        return {
            "version": vivace_version(),
            "served_model_name": models.default,
            "max_body_bytes": reader.max_bytes,
            "draining": models.doors.draining,
            **found.get(models.default, {"model": None, "engine": None}),
            "states": models.states,
            "models": found,
        }

    return routes


async def _check_alive(models: Models) -> None:
    """Raises ApiError (503) where an engine is dead, hung or unable to produce a token."""
    for served in models.loaded:
        await _check_one_alive(models, served)


async def _check_one_alive(models: Models, served: Served) -> None:
    try:
        await served.liveness.check()
    except ApiError:
        if served in models.loaded:  # not unloaded meanwhile
            raise


async def _told(engine: Engine) -> dict[str, Any]:
    stats = await _stats(engine)
    model = asdict(engine.info)
    del model["folder"]
    return {"model": model, "engine": None if stats is None else _numbers(stats)}


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
