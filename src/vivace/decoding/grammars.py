"""Constraints in llguidance's own language: what a request may ask for, as one grammar text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from vivace.core.structured import StructuredOutputsParams
from vivace.text.lark import ANY_TEXT, JSON_OPTIONS, json_rule, literal, with_options

# Compiling walks through every remainder of a divisor, and nothing else bounds or stops that.
MAX_DIVISOR = 500_000
_DIVISORS = re.compile(r'multipleOf\\*"\s*:\s*([0-9.]*[0-9](?:[eE][-+]?[0-9]+)?)')
_BODY = "body"


class GrammarError(Exception):
    """A constraint cannot be written as a grammar; the text says why."""


def grammar_of(params: StructuredOutputsParams) -> str:
    """The grammar of a whole answer.

    Raises:
        GrammarError: a schema or a tag is no JSON, not of the form that it must have, or divides
            by too much.
    """
    parts = _PARTS[params.kind](params)
    _check_divisors(json.dumps(parts))
    if params.after is None:
        return json.dumps({"grammars": parts})
    before = {"lark_grammar": _free_first(params.after, params.opening)}
    return json.dumps({"grammars": [before, {**parts[0], "name": _BODY}, *parts[1:]]})


def _free_first(after: str, opening: str | None) -> str:
    """Lark for the constraint behind free text: always, or where that begins with `opening`."""
    free = rf"free gap @{_BODY}"
    start = free if opening is None else f"opening {free} | @{_BODY}"
    rules = [
        f"start: {start}",
        f"free[suffix={literal(after)}]: {ANY_TEXT}",
        r"gap: /\n{0,2}/",
    ]
    if opening is not None:
        rules.append(f"opening: {literal(opening)}")
    return "\n".join(rules) + "\n"


def _schema_grammar(params: StructuredOutputsParams) -> list[dict[str, Any]]:
    return [{"json_schema": _with_options(_parsed(str(params.json), "json"), params)}]


def _object_grammar(params: StructuredOutputsParams) -> list[dict[str, Any]]:
    return [{"json_schema": _with_options({"type": "object"}, params)}]


def _regex_grammar(params: StructuredOutputsParams) -> list[dict[str, Any]]:
    return [{"lark_grammar": f"start: {_regex_literal(params.regex or '')}"}]


def _choice_grammar(params: StructuredOutputsParams) -> list[dict[str, Any]]:
    """As one terminal: the lexer takes many at once, and the parser must not."""
    choices = " | ".join(map(literal, params.choice or ()))
    return [{"lark_grammar": f"start: CHOICE\nCHOICE: {choices}\n"}]


def _given_grammar(params: StructuredOutputsParams) -> list[dict[str, Any]]:
    from llguidance.gbnf_to_lark import any_to_lark  # type: ignore[import-not-found, unused-ignore]

    try:
        return [{"lark_grammar": any_to_lark(params.grammar or "")}]
    except Exception as error:  # the library raises bare Exception
        raise GrammarError(f"grammar is no GBNF: {error}") from None


def _tag_grammar(params: StructuredOutputsParams) -> list[dict[str, Any]]:
    """Text in which every trigger is followed by one of its structures (vLLM's older form)."""
    tag = _parsed(str(params.structural_tag), "structural_tag")
    if not isinstance(tag, dict) or not {"triggers", "structures"} <= tag.keys():
        raise GrammarError("structural_tag must have triggers and structures")
    triggers, structures = tag["triggers"], tag["structures"]
    if not (isinstance(structures, list) and structures and all(map(_is_structure, structures))):
        raise GrammarError("structural_tag: each of structures must have begin, schema and end")
    if not (isinstance(triggers, list) and all(isinstance(one, str) and one for one in triggers)):
        raise GrammarError("structural_tag: triggers must be a list of strings")
    found = [_trigger_of(one["begin"], triggers) for one in structures]
    return [{"lark_grammar": tagged_text(structures, found, options_of(params))}]


def tagged_text(
    structures: Sequence[Mapping[str, Any]], triggers: Sequence[str], options: Mapping[str, Any]
) -> str:
    """Lark: free text in which what begins with a trigger is its structure.

    Args:
        structures: each with `begin`, which starts with its trigger, `schema` and `end`.
        options: llguidance's for JSON.
    """
    tags = " | ".join(f"tag_{i}" for i in range(len(triggers)))
    rules = [f"start: ({tags})* rest", f"rest: {ANY_TEXT}"]
    numbers = {trigger: number for number, trigger in enumerate(dict.fromkeys(triggers))}
    for trigger, number in numbers.items():
        # Lazy: no other text can hold a trigger.
        rules.append(f"trigger_{number}[suffix={literal(trigger)}]: {ANY_TEXT}")
    for i, (one, trigger) in enumerate(zip(structures, triggers, strict=True)):
        begin, end = literal(one["begin"][len(trigger) :]), literal(one["end"])
        schema = json_rule(one["schema"], options)
        rules.append(f"tag_{i}: trigger_{numbers[trigger]} {begin} {schema} {end}")
    return "\n".join(rules) + "\n"


def options_of(params: StructuredOutputsParams) -> dict[str, Any]:
    """llguidance's for JSON, all of them: what a schema says of its own counts for nothing."""
    if params.whitespace_pattern is None and not params.disable_any_whitespace:
        return JSON_OPTIONS
    flexible = params.whitespace_pattern is not None
    tight = {"item_separator": ",", "key_separator": ":", "whitespace_flexible": flexible}
    return {**JSON_OPTIONS, **tight, "whitespace_pattern": params.whitespace_pattern}


def _with_options(schema: Any, params: StructuredOutputsParams) -> dict[str, Any]:
    return with_options(_as_object(schema), options_of(params))


def _as_object(schema: Any) -> dict[str, Any]:
    if schema is True:
        return {}
    if not isinstance(schema, dict):
        raise GrammarError("a JSON schema must be an object")
    return schema


def _parsed(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GrammarError(f"{name} is no JSON: {error}") from None


def _regex_literal(regex: str) -> str:
    """Lark for a regex: a slash that nothing escapes, and line ends, are escaped."""
    if not regex:
        return literal("")
    escaped = re.sub(r"\\.|/", lambda found: "\\/" if found[0] == "/" else found[0], regex)
    return "/" + escaped.replace("\n", "\\n") + "/"


def _check_divisors(grammar: str) -> None:
    """Of all schemas in it together: those of `allOf` meet in their common multiple. Powers of ten
    cost nothing."""
    digits = (Decimal(one).normalize().as_tuple().digits for one in _DIVISORS.findall(grammar))
    divisors = {int("".join(map(str, one))) for one in digits}
    if math.lcm(*divisors) > MAX_DIVISOR:
        raise GrammarError(f"the common multiple of all multipleOf must be at most {MAX_DIVISOR}")


def _is_structure(one: Any) -> bool:
    texts = isinstance(one, dict) and all(isinstance(one.get(k), str) for k in ("begin", "end"))
    return texts and isinstance(one.get("schema"), dict)


def _trigger_of(begin: str, triggers: Sequence[str]) -> str:
    found = [one for one in triggers if begin.startswith(one)]
    if not found:
        raise GrammarError(f"structural_tag: no trigger begins {begin!r}")
    return max(found, key=len)


_PARTS = {
    "json": _schema_grammar,
    "regex": _regex_grammar,
    "choice": _choice_grammar,
    "grammar": _given_grammar,
    "json_object": _object_grammar,
    "structural_tag": _tag_grammar,
}
