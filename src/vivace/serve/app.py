"""The HTTP application, put together from its parts."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, FastAPI

from vivace.serve.answers import Answerer
from vivace.serve.bodies import BodyReader
from vivace.serve.embeddings import Embedder
from vivace.serve.endpoints import (
    admin,
    embed,
    generate,
    messages,
    models,
    operations,
    prefixes,
    responses,
    tokens,
)
from vivace.serve.errors import install_handlers
from vivace.serve.gate import Gate
from vivace.serve.generation import Generation
from vivace.serve.interfaces import ChatTemplate, Engine, Tokenizer
from vivace.serve.keys import load_keys
from vivace.serve.liveness import Liveness
from vivace.serve.metrics import ServerMetrics
from vivace.serve.openapi import install_schema
from vivace.serve.options import ServeOptions
from vivace.serve.prefetch import Prefetcher
from vivace.serve.prompts import Prompts
from vivace.serve.tools import Parsers
from vivace.serve.version import vivace_version


def create_app(
    engine: Engine,
    tokenizer: Tokenizer | None,
    chat_template: ChatTemplate,
    options: ServeOptions | None = None,
) -> FastAPI:
    """The application for an engine that has started.

    Its `state` has `generation` and `liveness`, for whoever runs the server.

    Raises:
        UsageError: the file of keys is wrong, or a parser is unknown.
    """
    options = options or ServeOptions()
    name = options.served_model_name or engine.info.model_name
    metrics = ServerMetrics(name, engine.info)
    generation = Generation(engine, metrics)
    liveness = Liveness(engine.info, generation)
    parsers = Parsers.of(chat_template.source, options.tool_call_parser, options.reasoning_parser)
    prompts = Prompts(tokenizer, chat_template, parsers)
    reader = BodyReader(name, options.max_body_bytes)
    app = FastAPI(title="vivace", version=vivace_version(), docs_url=None, redoc_url=None)
    install_handlers(app)
    app.include_router(operations.router(engine, generation, liveness, metrics))
    for router in _guarded(engine, reader, prompts, generation):
        app.include_router(router)
    app.add_middleware(Gate, keys=load_keys(options))
    install_schema(app)
    app.state.generation = generation
    app.state.liveness = liveness
    return app


def _guarded(
    engine: Engine, reader: BodyReader, prompts: Prompts, generation: Generation
) -> Iterator[APIRouter]:
    """Routes that gate.py asks a key for, where the server has one."""
    info, name = engine.info, reader.model_name
    numbers = info.dtype if info.quantization is None else f"{info.dtype}-{info.quantization}"
    fingerprint = f"vivace-{vivace_version()}-{info.backend}-{numbers}"
    yield models.router(reader, info)
    answerer = Answerer(info, prompts, generation, name, fingerprint)
    yield generate.router(reader, answerer)
    yield messages.router(reader, answerer, prompts)
    yield responses.router(reader, answerer)
    yield prefixes.router(reader, Prefetcher(info, prompts, generation, name))
    yield embed.router(reader, Embedder(info, prompts, generation, name))
    yield tokens.router(reader, prompts, info)
    yield operations.inside(engine, generation, reader)
    yield admin.router(reader, generation)
