"""The HTTP application, put together from its parts."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware

from vivace.serve.bodies import BodyReader
from vivace.serve.call_names import HEADER
from vivace.serve.endpoints import (
    adapters,
    admin,
    embed,
    generate,
    messages,
    models,
    operations,
    page,
    prefixes,
    responses,
    tokens,
)
from vivace.serve.errors import install_handlers
from vivace.serve.gate import Gate
from vivace.serve.interfaces import ChatTemplate, Engine, Tokenizer
from vivace.serve.keys import load_keys
from vivace.serve.leases import Leases
from vivace.serve.models import Models
from vivace.serve.observers import Observers
from vivace.serve.openapi import install_schema
from vivace.serve.options import ServeOptions
from vivace.serve.served import Shared, served_model
from vivace.serve.version import vivace_version


def create_app(
    engine: Engine,
    tokenizer: Tokenizer | None,
    chat_template: ChatTemplate,
    options: ServeOptions | None = None,
) -> FastAPI:
    """The application for one engine that has started, and that is somebody else's to end.

    Raises:
        UsageError: the file of keys is wrong, or what is asked for lacks OpenTelemetry or a canary.
    """
    options = options or ServeOptions()
    name = options.served_model_name or engine.info.model_name
    shared = Shared(options, Observers(options))
    served = served_model(name, engine, tokenizer, chat_template, shared)
    return create_app_for(Models.of_one(served, shared.doors), shared)


def create_app_for(served: Models, shared: Shared) -> FastAPI:
    """The application for several models. Its `state` has them, for whoever runs the server.

    Raises:
        UsageError: the file of keys is wrong, or a parser is unknown.
    """
    options = shared.options
    reader = BodyReader(served, options.max_body_bytes)
    app = FastAPI(title="vivace", version=vivace_version(), docs_url=None, redoc_url=None)
    install_handlers(app)
    app.include_router(operations.router(served))
    for router in _guarded(reader):
        app.include_router(router)
    files = page.read_page() if options.page else {}
    app.include_router(page.router(files))
    app.add_middleware(Leases)
    app.add_middleware(Gate, keys=load_keys(options), also_open=files)
    shared.observers.install(app)
    if options.allowed_origins is not None:  # outside of the gate: browsers ask without a key
        _allow(app, options.allowed_origins)
    install_schema(app)
    app.state.models = served
    return app


def _allow(app: FastAPI, origins: str) -> None:
    app.add_middleware(
        CORSMiddleware,
        allow_origins=[origin.strip() for origin in origins.split(",")],
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=[HEADER, "retry-after"],
    )


def _guarded(reader: BodyReader) -> Iterator[APIRouter]:
    """Routes that gate.py asks a key for, where the server has one."""
    yield models.router(reader)
    yield generate.router(reader)
    yield messages.router(reader)
    yield responses.router(reader)
    yield prefixes.router(reader)
    yield embed.router(reader)
    yield tokens.router(reader)
    yield operations.inside(reader)
    yield admin.router(reader)
    yield adapters.router(reader)
