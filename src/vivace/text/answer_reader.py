"""How a model marks its reasoning and its calls of tools, and who reads them."""

from __future__ import annotations

from collections.abc import Collection

from vivace.text.parsers.events import Event, Parser, Said, Thought
from vivace.text.parsers.reasoning import BEGIN, END, ReasoningParser
from vivace.text.parsers.tool_calls import PARSERS

REASONING_PARSERS = ("deepseek_r1", "qwen3")
TOOL_PARSERS = tuple(PARSERS)


class AnswerReader:
    """Reads one answer: first its reasoning, then the calls in what is left.

    Args:
        reasoning: None where the model does not mark any.
        tools: None where none were offered.
        shows_reasoning: otherwise it is left out.
    """

    def __init__(
        self, reasoning: Parser | None, tools: Parser | None, shows_reasoning: bool = True
    ) -> None:
        self._reasoning = reasoning
        self._tools = tools
        self._shows_reasoning = shows_reasoning

    def feed(self, text: str) -> list[Event]:
        if self._reasoning is None:
            return self._called([Said(text)] if text else [])
        return self._called(self._reasoning.feed(text))

    def finish(self) -> list[Event]:
        events = [] if self._reasoning is None else self._called(self._reasoning.finish())
        return events if self._tools is None else events + self._tools.finish()

    def _called(self, events: list[Event]) -> list[Event]:
        found: list[Event] = []
        for event in events:
            if isinstance(event, Said) and self._tools is not None:
                found += self._tools.feed(event.text)
            elif self._shows_reasoning or not isinstance(event, Thought):
                found.append(event)
        return found


def guess_reasoning(template: str | None) -> str | None:
    """Which reasoning parser a chat template asks for, if any."""
    return "qwen3" if template is not None and BEGIN in template and END in template else None


def guess_tools(template: str | None) -> str | None:
    """Which tool parser a chat template asks for, if any."""
    if template is None:
        return None
    marks = {"hermes": "<tool_call>", "mistral": "[TOOL_CALLS]"}
    found = next((name for name, mark in marks.items() if mark in template), None)
    is_llama = "<|python_tag|>" in template or ("ipython" in template and "parameters" in template)
    return "llama3_json" if found is None and is_llama else found


def opens_reasoning(parser: str, prompt: str) -> bool:
    """Whether an answer begins inside reasoning: the prompt's end opened it, or the model always
    does so."""
    opened, closed = prompt.rfind(BEGIN), prompt.rfind(END)
    end = prompt.rstrip()
    if end.endswith((BEGIN, END)):
        return end.endswith(BEGIN)
    return parser == "deepseek_r1" or opened > closed


def reasoning_first(parser: str, prompt: str) -> tuple[str | None, str] | None:
    """What begins and what ends the reasoning that an answer may have before all else: it has begun
    where the first is None. None where the prompt's end has closed it."""
    if opens_reasoning(parser, prompt):
        return None, END
    return None if prompt.rstrip().endswith(END) else (BEGIN, END)


def reasoning_parser(parser: str | None, prompt: str) -> ReasoningParser | None:
    return None if parser is None else ReasoningParser(opens_reasoning(parser, prompt))


def tool_parser(parser: str | None, names: Collection[str]) -> Parser | None:
    return None if parser is None else PARSERS[parser](names)
