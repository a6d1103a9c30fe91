"""Starts and ends the engines of models, each in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from pathlib import Path

from vivace.core.config import EngineConfig, modules_text, parse_modules
from vivace.core.errors import UsageError
from vivace.engine.build import model_name
from vivace.engine.client import EngineClient
from vivace.serve.models import ModelLimits
from vivace.serve.options import ServeOptions
from vivace.serve.served import Served, Shared, served_model
from vivace.text.chat import load_chat_template
from vivace.text.tokenizer import load_tokenizer


class Starter:
    """Args:
    configs: of each model, by name.
    notify: told how loading gets on, and what goes wrong.
    shared: what all models have in common.
    """

    def __init__(
        self,
        configs: Mapping[str, EngineConfig],
        notify: Callable[[str], None],
        shared: Shared,
    ) -> None:
        self._configs = dict(configs)
        self._notify = notify
        self._shared = shared
        self._running: dict[str, tuple[EngineClient, asyncio.Task[None]]] = {}

    async def start(self, name: str, memory_bytes: int | None) -> Served:
        """A model that has produced a token.

        Raises:
            VivaceError: it could not be loaded, or is no good; nothing is left of it.
        """
        config = self._configs[name]
        limits = [size for size in (config.memory_bytes, memory_bytes) if size is not None]
        config = replace(config, memory_bytes=min(limits, default=None))
        engine = EngineClient(config, self._notify, self._shared.options.engine_hang_seconds)
        try:
            await engine.start()
            served = await self._served(name, engine)
        except asyncio.CancelledError:
            engine.kill()  # while it loads it hears nothing
            await engine.close()
            raise
        except Exception:
            await engine.close()
            raise
        self._running[name] = engine, asyncio.create_task(served.canary.watch())
        return served

    async def stop(self, served: Served) -> None:
        """End its engine. The adapters that it has now it will have again."""
        name = served.names.model
        engine, watching = self._running.pop(name)
        watching.cancel()
        modules = modules_text(served.names.paths)
        self._configs[name] = replace(self._configs[name], lora_modules=modules)
        await engine.close()

    async def _served(self, name: str, engine: EngineClient) -> Served:
        folder = Path(engine.info.folder)
        tokenizer = await asyncio.to_thread(load_tokenizer, folder)  # others stream meanwhile
        template = await asyncio.to_thread(load_chat_template, folder)
        return served_model(name, engine, tokenizer, template, self._shared)


def model_configs(config: EngineConfig, options: ServeOptions) -> dict[str, EngineConfig]:
    """What each model loads, by its name, the first one first. All share the options of the engine;
    the adapters of the command line are the first one's.

    Raises:
        UsageError: a name comes twice, or the list of models is wrong.
    """
    first = options.served_model_name or model_name(config)
    more = parse_modules(options.models, "models")
    if first in more:
        raise UsageError(f"The name {first!r} in models is that of the first model.")
    plain = replace(config, lora_modules=None)
    return {first: config, **{name: replace(plain, model=path) for name, path in more.items()}}


def limits(options: ServeOptions) -> ModelLimits:
    """Of all models together. Raises UsageError where one is none."""
    if not 0 < options.model_wait_seconds < inf:
        raise UsageError("model_wait_seconds must be a number above 0.")
    return ModelLimits(
        options.max_loaded_models, options.model_memory_cap, options.model_wait_seconds
    )
