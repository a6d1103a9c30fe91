"""Between a caller's prompts and the engine: tokenizing, chat templates, defaults, admission."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from vivace.core.errors import RequestError
from vivace.core.request import LoRARequest, Pooling, Request
from vivace.core.sampling import SamplingParams
from vivace.core.stats import EngineInfo
from vivace.engine.prompts import GivenPrompt, Prompt, given_prompt
from vivace.engine.requests import fan_out, to_pool
from vivace.text.chat import ChatTemplate, load_chat_template
from vivace.text.tokenizer import Tokenizer, load_tokenizer

Messages: TypeAlias = Sequence[Mapping[str, Any]]


class KnownAdapters:
    """The LoRA adapters that callers have named: a name is always the same one's."""

    def __init__(self) -> None:
        self._by_name: dict[str, LoRARequest] = {}

    def is_new(self, asked: LoRARequest) -> bool:
        """Whether it has to be loaded. Raises RequestError where its name is another's."""
        known = self._by_name.get(asked.lora_name)
        if known not in (None, asked):
            raise RequestError(
                f"The adapter {asked.lora_name!r} was another one before; unload that first."
            )
        return known is None

    def add(self, asked: LoRARequest) -> None:
        self._by_name[asked.lora_name] = asked

    def remove(self, name: str) -> None:
        self._by_name.pop(name, None)


class Frontend:
    """Turns prompts into requests for one model."""

    def __init__(self, info: EngineInfo) -> None:
        folder = Path(info.folder)
        self.info = info
        self.tokenizer: Tokenizer | None = load_tokenizer(folder)
        self.chat_template: ChatTemplate = load_chat_template(folder)

    def requests(
        self,
        request_id: str,
        prompt: Prompt,
        params: SamplingParams | None,
        adapter: str | None = None,
    ) -> tuple[str | None, list[Request]]:
        """The prompt's text, where it was text, and its requests.

        Raises:
            RequestError: the prompt or the parameters do not fit the model.
        """
        given = given_prompt(prompt)
        token_ids = self._token_ids(given)
        params = params or self.info.default_params
        requests = fan_out(self.info, request_id, token_ids, params)
        salt = given.cache_salt
        return given.text, [replace(one, cache_salt=salt, adapter=adapter) for one in requests]

    def pooling(
        self, request_id: str, prompt: Prompt, how: Pooling | None, adapter: str | None = None
    ) -> Request:
        """The request for a prompt's vector.

        Raises:
            RequestError: the prompt does not fit the model.
        """
        given = given_prompt(prompt)
        request = to_pool(self.info, request_id, self._token_ids(given), how)
        return replace(request, cache_salt=given.cache_salt, adapter=adapter)

    def encode(self, text: str) -> list[int]:
        """Raises RequestError where the model has no tokenizer."""
        return self._need_tokenizer().encode(text)

    def chat_prompt(self, messages: Messages) -> list[int]:
        """Token ids of a conversation, up to where the assistant speaks next.

        Raises:
            RequestError: the model has no tokenizer or no chat template, or the template
                refuses the messages.
        """
        tokenizer = self._need_tokenizer()
        rendered = self.chat_template.render(messages)
        return tokenizer.encode(rendered, add_special_tokens=False)

    def _token_ids(self, given: GivenPrompt) -> Sequence[int]:
        return self.encode(given.text or "") if given.token_ids is None else given.token_ids

    def _need_tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise RequestError(
                "This model's folder has no tokenizer; give the prompt as token ids.", "prompt"
            )
        return self.tokenizer
