"""From the text of a request to token ids, off the event loop where that takes long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from vivace.core.errors import RequestError
from vivace.serve.interfaces import ChatTemplate, Tokenizer
from vivace.serve.schemas import ChatBody, CompletionBody, Message

LONG_TEXT = 4096  # characters; shorter is tokenized faster than a thread is woken

ResultT = TypeVar("ResultT")


class Prompts:
    """Makes token ids for one model.

    Args:
        tokenizer: None where the model has none; prompts are then token ids.
        chat_template: turns messages into the text of a prompt.
    """

    def __init__(self, tokenizer: Tokenizer | None, chat_template: ChatTemplate) -> None:
        self._tokenizer = tokenizer
        self._template = chat_template

    async def completion(self, body: CompletionBody) -> list[list[int]]:
        """Token ids of each prompt.

        Raises:
            RequestError: a prompt is empty, or text where the model has no tokenizer.
        """
        return [await self._completion(prompt) for prompt in _each_prompt(body.prompt)]

    async def chat(self, body: ChatBody) -> list[int]:
        """Token ids of the conversation, up to where the assistant speaks next.

        Raises:
            RequestError: the model cannot chat, or its template refuses the messages.
        """
        tokenizer = self._need_tokenizer("messages")
        messages = [_plain(message) for message in body.messages]
        options = _template_options(body)

        def encode() -> list[int]:
            # The template writes the special tokens itself.
            text = self._template.render(messages, **options)
            return tokenizer.encode(text, add_special_tokens=False)

        return await _off_loop(encode, sum(map(_characters, body.messages)))

    async def _completion(self, prompt: str | list[int]) -> list[int]:
        if not prompt:
            raise RequestError("The prompt is empty; give some text or token ids.", "prompt")
        if not isinstance(prompt, str):
            return prompt
        tokenizer = self._need_tokenizer("prompt")
        return await _off_loop(lambda: tokenizer.encode(prompt), len(prompt))

    def _need_tokenizer(self, param: str) -> Tokenizer:
        if self._tokenizer is None:
            raise RequestError(
                "This model's folder has no tokenizer; send the prompt to /v1/completions as "
                "token ids, with return_token_ids.",
                param,
            )
        return self._tokenizer


def _each_prompt(
    prompt: str | list[int] | list[str] | list[list[int]],
) -> list[str] | list[list[int]]:
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise RequestError("The prompt is empty; give some text or token ids.", "prompt")
    if isinstance(prompt[0], int):
        return [prompt]
    return prompt


def _plain(message: Message) -> dict[str, Any]:
    return {"content": "", **message.model_dump(exclude_none=True)}


def _characters(message: Message) -> int:
    content = message.content or ""
    return len(content) if isinstance(content, str) else sum(len(part.text) for part in content)


def _template_options(body: ChatBody) -> dict[str, Any]:
    options = body.chat_template_kwargs or {}
    reserved = {"self", "messages", "add_generation_prompt"} & options.keys()
    if reserved:
        raise RequestError(
            f"chat_template_kwargs cannot set {min(reserved)}.", "chat_template_kwargs"
        )
    opens = body.add_generation_prompt
    return {**options, "add_generation_prompt": True if opens is None else opens}


async def _off_loop(work: Callable[[], ResultT], characters: int) -> ResultT:
    if characters < LONG_TEXT:
        return work()
    return await asyncio.to_thread(work)
