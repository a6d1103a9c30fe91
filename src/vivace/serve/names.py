"""What clients may ask one engine for: its model by its name, and its adapters by theirs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from vivace.core.errors import CheckpointError, RequestError, UsageError, VivaceError
from vivace.core.stats import AdapterInfo
from vivace.serve.errors import ApiError
from vivace.serve.interfaces import Engine


class ServedNames:
    """The names of an engine's model and of the adapters that it has now.

    Attributes:
        model: what clients call the model.
    """

    def __init__(self, engine: Engine, model: str) -> None:
        self.model = model
        self._engine = engine
        self._adapters: dict[str, dict[str, Any]] = {}
        self._card = self._described(model)
        self._take(engine.info.adapters)

    @property
    def adapters(self) -> tuple[str, ...]:
        return tuple(self._adapters)

    @property
    def paths(self) -> dict[str, str]:
        """Of the adapters, by name."""
        return {name: str(card["root"]) for name, card in self._adapters.items()}

    def cards(self) -> list[dict[str, Any]]:
        """OpenAI's model objects: the model, then its adapters."""
        return [self._card, *self._adapters.values()]

    def adapter(self, asked: str | None) -> str | None:
        """The adapter that a checked name stands for; None is the model itself."""
        return None if asked is None or asked == self.model else asked

    async def load_adapter(self, name: str, path: str) -> None:
        """Raises ApiError (400) where the engine cannot take it in, and (503) where it has no place
        left for it."""
        if name == self.model:
            raise RequestError(f"{name!r} is the name of the model itself.", "lora_name")
        try:
            self._take(await self._engine.load_adapter(name, path))
        except VivaceError as error:
            raise _refused(error, "lora_path") from error

    async def unload_adapter(self, name: str) -> None:
        """Raises ApiError (404) where it is not loaded."""
        if name not in self._adapters:
            raise ApiError(
                404, f"The adapter {name!r} is not loaded.", "lora_name", "model_not_found"
            )
        try:
            self._take(await self._engine.unload_adapter(name))
        except VivaceError as error:
            raise _refused(error, "lora_name") from error

    def _take(self, adapters: Iterable[AdapterInfo]) -> None:
        before = self._adapters
        self._adapters = {
            one.name: before.get(one.name)
            or {**self._described(one.name), "root": one.path, "parent": self.model}
            for one in adapters
        }

    def _described(self, name: str) -> dict[str, Any]:
        info = self._engine.info
        return {
            "id": name,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "vivace",
            "max_model_len": info.max_model_len,
            "dtype": info.dtype,
            "quantization": info.quantization,
            "root": self.model,
            "parent": None,
        }


def _refused(error: VivaceError, param: str) -> Exception:
    """What is wrong with an adapter is its caller's business; the rest is told as it is."""
    if isinstance(error, CheckpointError | UsageError):
        return RequestError(str(error), param, "invalid_adapter")
    return error
