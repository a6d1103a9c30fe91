"""The HTTP application: its routes, and what they share."""

from __future__ import annotations

import asyncio
import hmac
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.responses import Response

from vivace.core.errors import VivaceError
from vivace.core.stats import EngineInfo
from vivace.serve.answers import Answerer
from vivace.serve.bodies import read_body
from vivace.serve.errors import ApiError, install_handlers
from vivace.serve.generation import Generation
from vivace.serve.interfaces import ChatTemplate, Engine, Tokenizer
from vivace.serve.metrics import ServerMetrics
from vivace.serve.options import ServeOptions
from vivace.serve.prefetch import Prefetcher
from vivace.serve.prompts import Prompts
from vivace.serve.schemas import ChatBody, CompletionBody, PrefetchBody

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATS_SECONDS = 5.0  # an engine that is longer silent is left out of the metrics


def create_app(
    engine: Engine,
    tokenizer: Tokenizer | None,
    chat_template: ChatTemplate,
    options: ServeOptions | None = None,
) -> FastAPI:
    """The application for an engine that has started."""
    options = options or ServeOptions()
    info = engine.info
    name = options.served_model_name or info.model_name
    metrics = ServerMetrics(name)
    generation = Generation(engine, metrics)
    numbers = info.dtype if info.quantization is None else f"{info.dtype}-{info.quantization}"
    fingerprint = f"vivace-{_version()}-{info.backend}-{numbers}"
    prompts = Prompts(tokenizer, chat_template)
    answerer = Answerer(info, prompts, generation, name, fingerprint)
    app = FastAPI(title="vivace", version=_version(), docs_url=None, redoc_url=None)
    install_handlers(app)
    app.include_router(_operations(engine, generation, metrics))
    guards = [] if options.api_key is None else [Depends(_KeyCheck(options.api_key))]
    app.include_router(_models(name, info), dependencies=guards)
    app.include_router(_answers(answerer, name, options.max_body_bytes), dependencies=guards)
    app.state.drain = generation.drain
    prefetcher = Prefetcher(info, prompts, generation, name)
    app.include_router(_prefetches(prefetcher, name, options.max_body_bytes), dependencies=guards)
    return app


def _answers(answerer: Answerer, name: str, max_body_bytes: int) -> APIRouter:
    router = APIRouter(prefix="/v1")

    @router.post("/completions", response_model=None)
    async def complete(request: Request) -> Response:
        body = await read_body(request, CompletionBody, max_body_bytes)
        _check_model(body.model, name)
        return await answerer.completion(request, body)

    @router.post("/chat/completions", response_model=None)
    async def chat(request: Request) -> Response:
        body = await read_body(request, ChatBody, max_body_bytes)
        _check_model(body.model, name)
        return await answerer.chat(request, body)

    return router


def _prefetches(prefetcher: Prefetcher, name: str, max_body_bytes: int) -> APIRouter:
    router = APIRouter(prefix="/v1/prefetch")

    @router.post("", response_model=None)
    async def prefetch(request: Request) -> Response:
        body = await read_body(request, PrefetchBody, max_body_bytes)
        _check_model(body.model, name)
        return await prefetcher.prefetch(request, body)

    @router.delete("/{pin_id}", response_model=None)
    async def unpin(pin_id: str) -> Response:
        return await prefetcher.unpin(pin_id)

    return router


def _models(name: str, info: EngineInfo) -> APIRouter:
    router = APIRouter(prefix="/v1")
    card = {
        "id": name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "vivace",
        "max_model_len": info.max_model_len,
        "dtype": info.dtype,
        "quantization": info.quantization,
    }

    @router.get("/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card]}

    @router.get("/models/{model:path}")
    async def model(model: str) -> dict[str, Any]:
        _check_model(model, name)
        return card

    return router


def _operations(engine: Engine, generation: Generation, metrics: ServerMetrics) -> APIRouter:
    router = APIRouter()

    @router.get("/health")
    async def health() -> dict[str, str]:
        await generation.check_health()
        return {"status": "ok"}

    @router.get("/metrics", response_model=None)
    async def scrape() -> Response:
        try:
            stats = await asyncio.wait_for(engine.stats(), STATS_SECONDS)
        except (VivaceError, asyncio.TimeoutError):
            stats = None
        return Response(metrics.render(stats), media_type=METRICS_TYPE)

    @router.get("/version")
    async def show_version() -> dict[str, str]:
        return {"version": _version()}

    return router


def _check_model(asked: str | None, name: str) -> None:
    if asked is not None and asked != name:
        raise ApiError(
            404,
            f"The model {asked!r} does not exist here; this server has {name!r}.",
            "model",
            "model_not_found",
        )


class _KeyCheck:
    """A dependency that lets only requests with the right key pass."""

    def __init__(self, api_key: str) -> None:
        self._expected = f"Bearer {api_key}".encode()

    def __call__(self, request: Request) -> None:
        given = request.headers.get("authorization", "").encode("latin-1")  # the bytes as sent
        if not hmac.compare_digest(given, self._expected):
            raise ApiError(
                401,
                "Send this server's key as 'Authorization: Bearer KEY'.",
                code="invalid_api_key",
            )


def _version() -> str:
    try:
        return version("vivace")
    except PackageNotFoundError:  # run from its sources
        return "unknown"
