"""One model, with everything that answers for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from vivace.serve.answers import Answerer
from vivace.serve.canary import Canary
from vivace.serve.embeddings import Embedder
from vivace.serve.generation import Doors, Generation
from vivace.serve.interfaces import ChatTemplate, Engine, Tokenizer
from vivace.serve.liveness import Liveness
from vivace.serve.metrics import ServerMetrics
from vivace.serve.model_parts import ModelParts
from vivace.serve.names import ServedNames
from vivace.serve.observers import Observers
from vivace.serve.options import ServeOptions
from vivace.serve.prefetch import Prefetcher
from vivace.serve.prompts import Prompts
from vivace.serve.tools import Parsers
from vivace.serve.version import vivace_version


@dataclass(frozen=True)
class Shared:
    """What all models of a server have in common."""

    options: ServeOptions
    observers: Observers
    doors: Doors = field(default_factory=Doors)


@dataclass(frozen=True, eq=False)
class Served:
    """A model whose engine has started."""

    engine: Engine
    names: ServedNames
    prompts: Prompts
    generation: Generation
    liveness: Liveness
    metrics: ServerMetrics
    answerer: Answerer
    embedder: Embedder
    prefetcher: Prefetcher
    canary: Canary


def served_model(
    name: str,
    engine: Engine,
    tokenizer: Tokenizer | None,
    chat_template: ChatTemplate,
    shared: Shared,
) -> Served:
    """Args:
    name: what clients call it.
    shared: with the other models of the server.

    Raises:
        UsageError: a parser is unknown, or readiness is to depend on the model's canary, and it
            has none.
    """
    info, names = engine.info, ServedNames(engine, name)
    metrics = ServerMetrics(name, info)
    shared.observers.watch(metrics, name)
    generation = Generation(engine, metrics, shared.doors)
    options = shared.options
    parsers = Parsers.of(chat_template.source, options.tool_call_parser, options.reasoning_parser)
    prompts = Prompts(tokenizer, chat_template, parsers)
    numbers = info.dtype if info.quantization is None else f"{info.dtype}-{info.quantization}"
    parts = ModelParts(info, prompts, generation, metrics, names)
    fingerprint = f"vivace-{vivace_version()}-{info.backend}-{numbers}"
    return Served(
        engine,
        names,
        prompts,
        generation,
        Liveness(info, generation),
        metrics,
        Answerer(parts, fingerprint),
        Embedder(parts),
        Prefetcher(parts),
        Canary(info, generation, metrics, options),
    )
