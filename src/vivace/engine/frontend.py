"""Between a caller's prompts and the engine: tokenizing, chat templates, defaults, admission."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from vivace.core.errors import RequestError
from vivace.core.request import Request
from vivace.core.sampling import SamplingParams
from vivace.core.stats import EngineInfo
from vivace.engine.requests import fan_out
from vivace.text.chat import ChatTemplate, load_chat_template
from vivace.text.tokenizer import Tokenizer, load_tokenizer

Prompt: TypeAlias = str | Sequence[int]
Messages: TypeAlias = Sequence[Mapping[str, Any]]


class Frontend:
    """Turns prompts into requests for one model."""

    def __init__(self, info: EngineInfo) -> None:
        folder = Path(info.folder)
        self.info = info
        self.tokenizer: Tokenizer | None = load_tokenizer(folder)
        self.chat_template: ChatTemplate = load_chat_template(folder)

    def requests(
        self, request_id: str, prompt: Prompt, params: SamplingParams | None
    ) -> tuple[str | None, list[Request]]:
        """The prompt's text, where it was text, and its requests.

        Raises:
            RequestError: the prompt or the parameters do not fit the model.
        """
        text = prompt if isinstance(prompt, str) else None
        params = params or self.info.default_params
        return text, fan_out(self.info, request_id, self.token_ids(prompt), params)

    def token_ids(self, prompt: Prompt) -> Sequence[int]:
        """Raises RequestError for a text where the model has no tokenizer."""
        return self.encode(prompt) if isinstance(prompt, str) else prompt

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

    def _need_tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise RequestError(
                "This model's folder has no tokenizer; give the prompt as token ids.", "prompt"
            )
        return self.tokenizer
