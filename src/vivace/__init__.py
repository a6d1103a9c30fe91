"""vivace makes a large language model fast and cheap to run, then serves it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vivace.core.sampling import SamplingParams
    from vivace.core.structured import StructuredOutputsParams
    from vivace.engine.async_llm import AsyncLLM
    from vivace.engine.llm import LLM
    from vivace.engine.prompts import TextPrompt, TokensPrompt

__all__ = [
    "LLM",
    "AsyncLLM",
    "SamplingParams",
    "StructuredOutputsParams",
    "TextPrompt",
    "TokensPrompt",
]
__version__ = "0.1.0"

# Looked up when first used, so that `vivace --help` does not wait for numpy.
_HOMES = {
    "LLM": "vivace.engine.llm",
    "AsyncLLM": "vivace.engine.async_llm",
    "SamplingParams": "vivace.core.sampling",
    "StructuredOutputsParams": "vivace.core.structured",
    "TextPrompt": "vivace.engine.prompts",
    "TokensPrompt": "vivace.engine.prompts",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
