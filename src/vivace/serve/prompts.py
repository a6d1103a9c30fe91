"""From the text of a request to token ids, off the event loop where that takes long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

from vivace.core.errors import RequestError
from vivace.core.sampling import SamplingParams
from vivace.serve.calls import Echo
from vivace.serve.interfaces import ChatTemplate, Tokenizer
from vivace.serve.schemas import ChatBody, CompletionBody, PromptBody, TokenizeBody
from vivace.serve.tools import Parsers, plain_call
from vivace.serve.turn_schemas import Message
from vivace.text.answer_reader import AnswerReader

LONG_TEXT = 4096  # characters; shorter is tokenized faster than a thread is woken

ResultT = TypeVar("ResultT")
GivenPrompts: TypeAlias = str | list[int] | list[str] | list[list[int]]


@dataclass(frozen=True)
class Conversation:
    """A conversation as the model sees it: its text, and the text's tokens."""

    text: str
    token_ids: list[int]


class Prompts:
    """Makes token ids for one model.

    Args:
        tokenizer: None where the model has none; prompts are then token ids.
        chat_template: turns messages into the text of a prompt.
        parsers: how the model marks what is no content.
    """

    def __init__(
        self, tokenizer: Tokenizer | None, chat_template: ChatTemplate, parsers: Parsers
    ) -> None:
        self._tokenizer = tokenizer
        self._template = chat_template
        self._parsers = parsers

    async def each(
        self, given: GivenPrompts, param: str = "prompt", adds: bool = True
    ) -> list[list[int]]:
        """Token ids of each prompt.

        Args:
            param: what the caller calls them.
            adds: whether texts get special tokens.

        Raises:
            RequestError: a prompt is empty, or text where the model has no tokenizer.
        """
        return [await self._encode(prompt, param, adds) for prompt in _each(given, param)]

    async def echoes(self, body: CompletionBody, prompts: Sequence[list[int]]) -> list[Echo]:
        """What `echo` writes before the answers; token ids, and what is left of a truncated text,
        as the text they stand for."""
        whole = body.truncate_prompt_tokens is None
        given = _each(body.prompt, "prompt") if whole else prompts
        return [await self._echo(*pair) for pair in zip(given, prompts, strict=True)]

    async def chat(self, body: ChatBody) -> list[int]:
        """Token ids of the conversation; raises as `conversation`."""
        return (await self.conversation(body)).token_ids

    async def conversation(self, body: ChatBody) -> Conversation:
        """The conversation up to where the assistant speaks next, or goes on.

        Raises:
            RequestError: the model cannot chat or call tools, or its template refuses the messages.
        """
        tokenizer = self._need_tokenizer("messages")
        messages = [_plain(message) for message in body.messages]
        options = _template_options(body)
        if tools := self._parsers.prompt_tools(body):
            options["tools"] = tools
        self._check_calls(body)

        def encode() -> Conversation:
            text = self._template.render(messages, **options)
            if body.continue_final_message:
                text = _open_end(text, messages[-1]["content"])
            # The template writes the special tokens itself.
            token_ids = tokenizer.encode(text, add_special_tokens=bool(body.add_special_tokens))
            return Conversation(text, token_ids)

        return await _off_loop(encode, sum(map(_characters, body.messages)))

    def constrained(
        self, params: SamplingParams, body: ChatBody, conversation: Conversation
    ) -> SamplingParams:
        """The parameters with what tools and reasoning make of an answer's form; raises
        RequestError where these exclude each other."""
        tokenizer = self._need_tokenizer("messages")
        return self._parsers.constrained(params, body, conversation.text, tokenizer)

    def reader(
        self, body: ChatBody, conversation: Conversation, ended: Callable[[bool], None]
    ) -> Callable[[], AnswerReader]:
        """As `Parsers.reader`."""
        return self._parsers.reader(body, conversation.text, ended)

    def _check_calls(self, body: ChatBody) -> None:
        """No call may be left out of the prompt."""
        called = any(message.tool_calls for message in body.messages)
        if called and "tool_calls" not in (self._template.source or ""):
            raise RequestError("This model's chat template knows no tool calls.", "messages")

    async def either(self, body: PromptBody, opens: bool) -> list[int]:
        """Token ids of the body's prompt or messages.

        Args:
            opens: whether messages end where the assistant speaks next, unless the body says it.

        Raises:
            RequestError: not exactly one of them is given; else as `each` and `chat`.
        """
        if body.prompt is not None and body.messages is None:
            return await self._encode(body.prompt, "prompt")
        if body.messages is None or body.prompt is not None:
            raise RequestError("Give either prompt or messages.", "prompt")
        said = body.add_generation_prompt
        chat = ChatBody(
            messages=body.messages,
            add_generation_prompt=opens if said is None else said,
            chat_template_kwargs=body.chat_template_kwargs,
            tools=body.tools,
        )
        return await self.chat(chat)

    async def tokenize(self, body: TokenizeBody) -> list[int]:
        """As `either`, but an empty text has its tokens too.

        Raises:
            RequestError: there is no tokenizer; or add_special_tokens comes with messages, where
                the template writes them.
        """
        tokenizer, given = self._need_tokenizer("prompt"), body.prompt
        if body.messages is not None and body.add_special_tokens:
            raise RequestError(
                "add_special_tokens is for a prompt: the template of messages writes them itself.",
                "add_special_tokens",
            )
        if not isinstance(given, str) or body.messages is not None:
            return await self.either(body, opens=True)
        adds = body.add_special_tokens is not False
        return await _off_loop(partial(tokenizer.encode, given, adds), len(given))

    def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        """Each token's own text; half a character reads U+FFFD."""
        return list(map(self._need_tokenizer("tokens").token_text, token_ids))

    async def text(self, token_ids: Sequence[int]) -> str:
        """What token ids read, special tokens included.

        Raises:
            RequestError: the model has no tokenizer.
        """
        tokenizer = self._need_tokenizer("tokens")
        decode = partial(tokenizer.decode, token_ids, skip_special_tokens=False)
        return await _off_loop(decode, len(token_ids))

    async def _encode(self, prompt: str | list[int], param: str, adds: bool = True) -> list[int]:
        if not prompt:
            raise _empty(param)
        if not isinstance(prompt, str):
            return prompt
        tokenizer = self._need_tokenizer(param)
        return await _off_loop(lambda: tokenizer.encode(prompt, adds), len(prompt))

    async def _echo(self, given: str | list[int], token_ids: list[int]) -> Echo:
        tokenizer = self._tokenizer
        if tokenizer is None:
            return Echo("", "")
        first = tokenizer.token_text(token_ids[0])
        return Echo(given if isinstance(given, str) else await self.text(token_ids), first)

    def _need_tokenizer(self, param: str) -> Tokenizer:
        if self._tokenizer is None:
            raise RequestError(
                "This model's folder has no tokenizer; send the prompt to /v1/completions as "
                "token ids, with return_token_ids.",
                param,
            )
        return self._tokenizer


def _each(given: GivenPrompts, param: str) -> Sequence[str | list[int]]:
    if isinstance(given, str):
        return [given]
    if not given:
        raise _empty(param)
    if isinstance(given[0], int):
        return [given]
    return given


def _empty(param: str) -> RequestError:
    return RequestError(f"The {param} is empty; give some text or token ids.", param)


def last_tokens(prompt: list[int], limit: int | None, room: int) -> list[int]:
    """As much of a prompt's end as its caller asked to keep.

    Args:
        limit: tokens; -1 is `room`, None all.

    Raises:
        RequestError: it is no count.
    """
    if limit is None:
        return prompt
    if limit == 0 or limit < -1:
        raise RequestError(
            f"truncate_prompt_tokens must be at least 1, or -1, got {limit}.",
            "truncate_prompt_tokens",
        )
    return prompt[-(max(room, 1) if limit == -1 else limit) :]


@contextmanager
def called(**names: str) -> Iterator[None]:
    """What is wrong with a parameter is said of the name that its caller knows."""
    try:
        yield
    except RequestError as error:
        if error.param not in names:
            raise
        raise RequestError(str(error), names[error.param], error.code) from None


def _plain(message: Message) -> dict[str, Any]:
    """As templates know it."""
    given = {"content": "", **message.model_dump(exclude_none=True)}
    if "tool_calls" in given:
        given["tool_calls"] = list(map(plain_call, given["tool_calls"]))
    if "reasoning" in given:
        given.setdefault("reasoning_content", given.pop("reasoning"))
    return given


def _characters(message: Message) -> int:
    content = message.content or ""
    return len(content) if isinstance(content, str) else sum(len(part.text) for part in content)


def _template_options(body: ChatBody) -> dict[str, Any]:
    options = body.chat_template_kwargs or {}
    reserved = {"self", "messages", "documents", "tools", "add_generation_prompt"} & options.keys()
    if reserved:
        raise RequestError(
            f"chat_template_kwargs cannot set {min(reserved)}.", "chat_template_kwargs"
        )
    opens = body.add_generation_prompt
    if opens and body.continue_final_message:
        raise RequestError(
            "continue_final_message and add_generation_prompt exclude each other.",
            "continue_final_message",
        )
    documents = {"documents": body.documents} if body.documents else {}
    opens = not body.continue_final_message if opens is None else opens
    return {**options, **documents, "add_generation_prompt": opens}


def _open_end(text: str, content: Any) -> str:
    """The conversation up to the end of its last message, as Transformers cuts it: where the
    template strips messages, without the space at its end.

    Raises:
        RequestError: the template did not write that message as it stands.
    """
    parts = [content] if isinstance(content, str) else [part["text"] for part in content]
    last = "\n".join(parts)
    start = text.rfind(last.strip())
    if not last.strip() or start < 0:
        raise RequestError(
            "The chat template leaves no last message to continue; send one with text.",
            "continue_final_message",
        )
    kept = last.lstrip() if text.startswith(last.lstrip(), start) else last.strip()
    return text[: start + len(kept)]


async def _off_loop(work: Callable[[], ResultT], characters: int) -> ResultT:
    if characters < LONG_TEXT:
        return work()
    return await asyncio.to_thread(work)
