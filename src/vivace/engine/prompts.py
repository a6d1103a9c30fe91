"""Prompts in the forms in which callers give them: vLLM's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, TypeAlias, TypedDict

import numpy as np

from vivace.core.errors import RequestError


class _Optional(TypedDict, total=False):
    cache_salt: str


class TextPrompt(_Optional):
    """A text. Prefixes are shared only among prompts of equal `cache_salt`."""

    prompt: str


class _Told(_Optional, total=False):
    prompt: str


class TokensPrompt(_Told):
    """Token ids, and perhaps the text that they were made of. `cache_salt` as in `TextPrompt`."""

    prompt_token_ids: Sequence[int]


Prompt: TypeAlias = str | Sequence[int] | TextPrompt | TokensPrompt

_KEYS = {"prompt", "prompt_token_ids", "cache_salt"}


@dataclass(frozen=True)
class GivenPrompt:
    """Attributes:
    text: None where only token ids were given.
    token_ids: None where the text is to be tokenized.
    """

    text: str | None
    token_ids: tuple[int, ...] | None
    cache_salt: str = ""


def each_prompt(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """One prompt or several, as several."""
    if isinstance(prompts, str | Mapping):
        return [prompts]
    listed: list[Any] = list(prompts)
    return [listed] if listed and isinstance(listed[0], int | np.integer) else listed


def given_prompt(prompt: Prompt) -> GivenPrompt:
    """What a prompt of any form says.

    Raises:
        RequestError: it is none, or asks for what is not supported; its name is `param`.
    """
    if isinstance(prompt, str):
        return GivenPrompt(prompt, None)
    if isinstance(prompt, Mapping):
        return _from_fields(dict(prompt))
    return GivenPrompt(None, _token_ids(prompt))


def _from_fields(fields: dict[str, Any]) -> GivenPrompt:
    for name, value in fields.items():
        if name not in _KEYS and value is not None:
            raise RequestError(f"{name} is not a part of prompts that is supported.", name)
    text, token_ids = fields.get("prompt"), fields.get("prompt_token_ids")
    salt = fields.get("cache_salt")
    for name, value in (("prompt", text), ("cache_salt", salt)):
        if value is not None and not isinstance(value, str):
            raise RequestError(f"{name} must be a text, got {value!r}.", name)
    if text is None and token_ids is None:
        raise RequestError("A prompt must have prompt or prompt_token_ids.", "prompt")
    return GivenPrompt(text, None if token_ids is None else _token_ids(token_ids), salt or "")


def _token_ids(given: object) -> tuple[int, ...]:
    try:
        return tuple(map(index, given))  # type: ignore[call-overload]
    except TypeError:
        raise RequestError(
            "A prompt must be a text, a list of token ids, or a map with one of them.", "prompt"
        ) from None
