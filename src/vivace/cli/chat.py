"""`vivace chat`: a conversation in the terminal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from io import TextIOWrapper
from itertools import takewhile
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from vivace.cli.console import notice, write
from vivace.cli.flags import flags
from vivace.cli.generate import Temperature
from vivace.cli.model import checked, load, received
from vivace.core.config import EngineConfig
from vivace.core.errors import RequestError, UsageError

if TYPE_CHECKING:
    from vivace.core.sampling import SamplingParams
    from vivace.engine.llm import LLM

Message = dict[str, str]
HELP = "Ctrl-C stops an answer, /clear starts anew, /exit or Ctrl-D leaves."

System = Annotated[str | None, typer.Option("--system", help="A system message to begin with.")]
MaxTokens = Annotated[
    int | None,
    typer.Option("--max-tokens", help="At most this many tokens an answer; left out, no limit."),
]


@flags
def chat(
    config: EngineConfig,
    system: System = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
) -> None:
    """Talk with a model; its answers stream."""
    params_for = checked({"temperature": temperature})
    llm = load(config)
    _need_template(llm)
    params = replace(params_for(llm), max_tokens=max_tokens)
    opening: list[Message] = [{"role": "system", "content": system}] if system else []
    notice(HELP)
    messages = list(opening)
    for line in _lines():
        if line == "/clear":
            messages = list(opening)
        elif line:
            _take_turn(llm, messages, line, params)
    notice("")


def _need_template(llm: LLM) -> None:
    from vivace.text.chat import load_chat_template

    if llm.tokenizer is None or load_chat_template(Path(llm.info.folder)).source is None:
        raise UsageError(
            f"{llm.info.model_name} has no chat template, so it cannot chat; "
            "continue a text with `vivace generate` instead."
        )


def _lines() -> Iterator[str]:
    """What the user types, until /exit or the end of input."""
    prompt = ""
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # a bad line is refused when it is encoded
    if sys.stdin.isatty():
        import readline  # noqa: F401  gives input() its line editing

        prompt = "> "
    while True:
        try:
            line = input(prompt).strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            notice(f"\n{HELP}")
            continue
        if line == "/exit":
            return
        yield line


def _take_turn(llm: LLM, messages: list[Message], line: str, params: SamplingParams) -> None:
    """Add the user's line and the answer to the conversation; a refused line is taken back."""
    messages.append({"role": "user", "content": line})
    try:
        with _interrupts() as interrupted, closing(llm.stream_chat(messages, params)) as stream:
            deltas = received(takewhile(lambda _: not interrupted(), stream), write)
    except RequestError as error:
        messages.pop()
        notice(f"{error} /clear starts anew.")
        return
    write("\n")
    answer = "".join(delta.text for delta in deltas)
    messages.append({"role": "assistant", "content": answer})


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Inside, Ctrl-C is only noted: raised in the middle of a step, it could break the engine."""
    pressed = Event()
    before = signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
