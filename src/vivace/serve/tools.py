"""The tools of a call, and how this model's answers are read."""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from secrets import choice
from typing import Any

from vivace.core.errors import RequestError, UsageError
from vivace.core.sampling import SamplingParams
from vivace.core.structured import StructuredOutputsParams
from vivace.serve.interfaces import Tokenizer
from vivace.serve.schemas import ChatBody
from vivace.serve.tool_counts import CountedParser
from vivace.serve.tool_schemas import NamedTool, Tool
from vivace.text.answer_reader import (
    REASONING_PARSERS,
    TOOL_PARSERS,
    AnswerReader,
    guess_reasoning,
    guess_tools,
    reasoning_first,
    reasoning_parser,
    tool_parser,
)
from vivace.text.tool_grammar import FORMS, CallRules, parameters_of, tool_grammar

_LETTERS = string.ascii_letters + string.digits


def new_call_id() -> str:
    """Nine letters or digits: Mistral's templates refuse any other."""
    return "".join(choice(_LETTERS) for _ in range(9))


@dataclass(frozen=True)
class Parsers:
    """How this model marks tool calls and reasoning; None where it does not.

    Attributes:
        takes_tools: whether the chat template shows tools to the model.
    """

    tools: str | None = None
    reasoning: str | None = None
    takes_tools: bool = False

    @staticmethod
    def of(template: str | None, tools: str | None, reasoning: str | None) -> Parsers:
        """As the flags say, or else the chat template.

        Raises:
            UsageError: a flag names no parser.
        """
        _check("--tool-call-parser", tools, TOOL_PARSERS)
        _check("--reasoning-parser", reasoning, REASONING_PARSERS)
        return Parsers(
            tools or guess_tools(template),
            reasoning or guess_reasoning(template),
            template is not None and "tools" in template,
        )

    def prompt_tools(self, body: ChatBody) -> list[dict[str, Any]]:
        """What the template is to show.

        Raises:
            RequestError: the model cannot call tools.
        """
        tools = offered(body)
        if tools and not self.takes_tools:
            raise RequestError("This model's chat template has no place for tools.", "tools")
        if tools and self.tools is None:
            raise RequestError(
                "How this model writes calls is not known; the server needs --tool-call-parser.",
                "tools",
            )
        return [tool.model_dump(exclude_none=True) for tool in tools]

    def constrained(
        self, params: SamplingParams, body: ChatBody, prompt: str, tokenizer: Tokenizer
    ) -> SamplingParams:
        """The parameters with what tools and reasoning make of an answer's form.

        Raises:
            RequestError: tools and another constraint exclude each other.
        """
        given, tools = params.structured_outputs, offered(body)
        if tools and given is not None:
            raise RequestError("tools and a constraint on the answer exclude each other.", "tools")
        if tools:
            params = replace(params, skip_special_tokens=False)  # a mark may be one
            given = self._tool_constraint(body, tools, partial(special_token, tokenizer))
        first = reasoning_first(self.reasoning, prompt) if self.reasoning else None
        if given is not None and first is not None:
            given = replace(given, opening=first[0], after=first[1])
        return replace(params, structured_outputs=given)

    def reader(
        self, body: ChatBody, prompt: str, ended: Callable[[bool], None]
    ) -> Callable[[], AnswerReader]:
        """Makes the reader of one answer.

        Args:
            ended: is told whether there was a call, where tools are offered.
        """
        names = [tool.function.name for tool in offered(body)]
        shows = body.include_reasoning is not False

        def read() -> AnswerReader:
            tools = tool_parser(self.tools, names) if names else None
            counted = None if tools is None else CountedParser(tools, ended)
            return AnswerReader(reasoning_parser(self.reasoning, prompt), counted, shows)

        return read

    def _tool_constraint(
        self, body: ChatBody, tools: Sequence[Tool], special: Callable[[str], int | None]
    ) -> StructuredOutputsParams | None:
        """A model that may choose is held to schemas that are `strict`, and to a single call."""
        required = body.tool_choice not in (None, "auto")
        parallel = body.parallel_tool_calls is not False and not isinstance(
            body.tool_choice, NamedTool
        )
        if not (required or not parallel or any(tool.function.strict for tool in tools)):
            return None
        functions = tuple(
            (
                tool.function.name,
                parameters_of(tool.function.parameters)
                if required or tool.function.strict
                else None,
            )
            for tool in tools
        )
        assert self.tools is not None
        rules = CallRules(functions, required, parallel)
        return StructuredOutputsParams(grammar=tool_grammar(FORMS[self.tools], rules, special))


def offered(body: ChatBody) -> list[Tool]:
    """The tools that the model may call; of a call that names one, that alone.

    Raises:
        RequestError: two have one name, or one is to be called that is not there.
    """
    tools, wanted = body.tools or [], body.tool_choice
    names = [tool.function.name for tool in tools]
    if len(set(names)) < len(names):
        raise RequestError("Two tools have the same name.", "tools")
    if wanted == "none":
        return []
    if isinstance(wanted, NamedTool):
        tools = [tool for tool in tools if tool.function.name == wanted.function.name]
    if not tools and wanted not in (None, "auto"):
        raise RequestError(
            "tool_choice asks for a tool that is not among the tools.", "tool_choice"
        )
    return tools


def special_token(tokenizer: Tokenizer, text: str) -> int | None:
    """The id of a text that is one special token."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    return ids[0] if len(ids) == 1 and not tokenizer.decode(ids) else None


def plain_call(call: dict[str, Any]) -> dict[str, Any]:
    """A call as templates expect it: arguments are an object, not its text."""
    function = dict(call["function"])
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except ValueError:
        raise RequestError("The arguments of a tool call must be JSON.", "messages") from None
    function["arguments"] = arguments
    return {**call, "type": "function", "function": function}


def _check(flag: str, name: str | None, known: Sequence[str]) -> None:
    if name is not None and name not in known:
        raise UsageError(f"{flag} must be one of {', '.join(known)}, not {name!r}.")
