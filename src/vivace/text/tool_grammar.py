"""Grammars that hold a model to calls of the functions there are, in its own form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vivace.text.lark import ANY_TEXT, json_rule, literal

_ANYTHING = {"type": "object"}
_NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}


@dataclass(frozen=True)
class ToolForm:
    """How a family of models writes calls.

    Attributes:
        mark: what begins the calls, or each of them; empty where nothing does.
        opening: between the mark and the first call.
        begin: of a call, before its name; behind the mark where each call has one.
        between: name and arguments.
        end: of a call.
        separator: between calls; where each call has a mark it stands before the mark.
        closing: behind the last call.
        each: whether each call has a mark.
    """

    mark: str
    between: str
    begin: str = '{"name": "'
    end: str = "}"
    opening: str = ""
    separator: str = ", "
    closing: str = ""
    each: bool = False


FORMS = {
    "hermes": ToolForm(
        "<tool_call>",
        '", "arguments": ',
        '\n{"name": "',
        "}\n</tool_call>",
        separator="\n",
        each=True,
    ),
    "llama3_json": ToolForm("", '", "parameters": ', separator="; "),
    "mistral": ToolForm("[TOOL_CALLS]", '", "arguments": ', opening="[", closing="]"),
}


@dataclass(frozen=True)
class CallRules:
    """What calls there must be.

    Attributes:
        functions: names, and the schema of the arguments; None where these are free.
        required: whether there must be one; otherwise the answer may be text, or text and calls.
        parallel: whether there may be several.
    """

    functions: tuple[tuple[str, dict[str, Any] | None], ...]
    required: bool
    parallel: bool


def tool_grammar(
    form: ToolForm, rules: CallRules, special_token: Callable[[str], int | None]
) -> str:
    """Lark for an answer with calls.

    Args:
        special_token: the id of a text that is one special token, or None.
    """
    token_id = special_token(form.mark) if form.mark else None
    mark = _texts(form.mark) if token_id is None else f"<[{token_id}]>"
    lines = [
        f"call_{i}: {_call(form, name, schema)}" for i, (name, schema) in enumerate(rules.functions)
    ]
    lines.append("call: " + " | ".join(f"call_{i}" for i in range(len(rules.functions))))
    lines.append("calls: " + _calls(form, mark, rules.parallel))
    return "\n".join([*_start(form, rules.required, token_id), *lines]) + "\n"


def parameters_of(schema: dict[str, Any] | None) -> dict[str, Any]:
    """What a function takes that does not say it: nothing."""
    return _NOTHING if schema is None else schema


def _call(form: ToolForm, name: str, schema: dict[str, Any] | None) -> str:
    arguments = json_rule(_ANYTHING if schema is None else schema)
    return f"{literal(form.begin + name + form.between)} {arguments} {literal(form.end)}"


def _calls(form: ToolForm, mark: str, parallel: bool) -> str:
    """Behind the first mark."""
    again = f" {mark}" if form.each else ""
    more = f" ({literal(form.separator)}{again} call)*" if parallel else ""
    return f"{_texts(form.opening)} call{more} {_texts(form.closing)}"


def _start(form: ToolForm, required: bool, token_id: int | None) -> Sequence[str]:
    if not form.mark:
        plain = r"plain: /([^{ \t\r\n](.|\n)*)?/"
        return ["start: calls"] if required else ["start: calls | plain", plain]
    first = literal(form.mark) if token_id is None else f"<[{token_id}]>"
    if required:
        return [f"start: {first} calls"]
    rest = f"rest: {ANY_TEXT}"
    if token_id is not None:
        return [f"start: rest | rest {first} calls", rest]
    # Lazy: no other text can hold the mark.
    return ["start: rest | before calls", rest, f"before[suffix={first}]: {ANY_TEXT}"]


def _texts(text: str) -> str:
    return literal(text) if text else ""
