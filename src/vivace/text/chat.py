"""Conversations to prompts, by the template that a checkpoint brings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vivace.core.errors import CheckpointError, RequestError
from vivace.text.tokenizer import special_token, tokenizer_config

if TYPE_CHECKING:
    from jinja2 import Template

Message = Mapping[str, Any]

_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


def load_chat_template(folder: Path) -> ChatTemplate:
    """The template of a folder or a GGUF file; without one, `render` raises RequestError.

    Raises:
        CheckpointError: the folder's template files are damaged.
    """
    config = tokenizer_config(folder)
    tokens = {name: special_token(config, name) for name in _SPECIAL_TOKENS}
    present = {name: token for name, token in tokens.items() if token is not None}
    return ChatTemplate(_source(folder, config), present)


class ChatTemplate:
    """A Jinja template with Hugging Face's functions, run in a sandbox.

    Args:
        source: the template, or None.
        special_tokens: variables such as `bos_token` for the template.
    """

    def __init__(self, source: str | None, special_tokens: Mapping[str, str] | None = None) -> None:
        self.source = source
        self._special_tokens = dict(special_tokens or {})

    def render(
        self, messages: Sequence[Message], add_generation_prompt: bool = True, **kwargs: Any
    ) -> str:
        """The prompt's text. Encode it without special tokens: the template writes them itself.

        Args:
            messages: each with a `role` and a `content`: a string, or a list of text parts.
            kwargs: more variables for the template.

        Raises:
            RequestError: the model has no template, or it refuses these messages.
        """
        if self.source is None:
            raise RequestError(
                "This model has no chat template; send a prompt to /v1/completions instead.",
                "messages",
            )
        variables: dict[str, Any] = {"tools": None, "documents": None, **self._special_tokens}
        variables |= kwargs
        variables["messages"] = [_plain(message) for message in messages]
        variables["add_generation_prompt"] = add_generation_prompt
        try:
            return self._template.render(variables)
        except Exception as error:  # a template is a program: it may fail in any way
            raise RequestError(
                f"The model's chat template refused the messages: {error}", "messages"
            ) from error

    @cached_property
    def _template(self) -> Template:
        from vivace.text.jinja import compile_template  # jinja2 is slow to import

        return compile_template(self.source or "")


def _plain(message: Message) -> dict[str, Any]:
    """The message with its content as one string; text parts are joined by newlines, as in vLLM."""
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise RequestError("Each message must be an object with a role.", "messages")
    content = message.get("content")
    if content is None or isinstance(content, str):
        return dict(message)
    if not isinstance(content, Sequence):
        raise RequestError("A message's content must be a string or a list of parts.", "messages")
    return {**message, "content": "\n".join(map(_part_text, content))}


def _part_text(part: object) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and part.get("type") == "text":
        text = part.get("text")
        if isinstance(text, str):
            return text
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise RequestError(f"Only text content is supported, not a part of type {kind!r}.", "messages")


def _source(folder: Path, config: Mapping[str, Any]) -> str | None:
    """A file of its own comes before the tokenizer's configuration, as in Transformers."""
    for name, read in _FILES.items():
        path = folder / name
        if path.exists():
            return read(path)
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise CheckpointError(f"The chat_template in {folder}/tokenizer_config.json is no text.")
    return template


def _read_jinja(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _read_json(path: Path) -> str:
    try:
        template = json.loads(path.read_text(encoding="utf-8"))["chat_template"]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} must be a JSON object with a chat_template.") from error
    return str(template)


_FILES: Mapping[str, Callable[[Path], str]] = {
    "chat_template.jinja": _read_jinja,
    "chat_template.json": _read_json,
}
