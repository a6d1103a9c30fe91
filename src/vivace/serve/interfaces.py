"""What the server needs of its neighbours: an engine, a tokenizer, a chat template."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Protocol

from vivace.core.request import Delta, Request
from vivace.core.stats import AdapterInfo, EngineInfo, EngineStats


class Engine(Protocol):
    """The part of `engine.client.EngineClient` that the server uses."""

    @property
    def info(self) -> EngineInfo: ...

    def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Deltas until one has a finish reason. Closing the iterator early aborts the request."""
        ...

    async def abort(self, request_id: str) -> None:
        """End a request from outside: its last delta has the finish reason "abort"."""
        ...

    async def reset_prefix_cache(self) -> None:
        """Forget every computed prefix but those that are in use or pinned."""
        ...

    async def unpin(self, pin_id: str) -> None:
        """Let a pinned prefix be evicted again; unknown ids are ignored."""
        ...

    async def load_adapter(self, name: str, path: str) -> tuple[AdapterInfo, ...]:
        """Take in a LoRA adapter; those that take requests then. Raises VivaceError."""
        ...

    async def unload_adapter(self, name: str) -> tuple[AdapterInfo, ...]:
        """Take no further requests for an adapter; those that still do. Raises VivaceError."""
        ...

    async def stats(self) -> EngineStats: ...

    async def check_health(self) -> None:
        """Raises VivaceError where the engine is dead or hung."""
        ...


class Tokenizer(Protocol):
    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]: ...

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str: ...

    def token_text(self, token_id: int) -> str:
        """One token's own text."""
        ...


class ChatTemplate(Protocol):
    @property
    def source(self) -> str | None:
        """What is rendered; None where the model has no template."""
        ...

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        **kwargs: Any,
    ) -> str: ...
