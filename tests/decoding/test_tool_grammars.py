"""Calls by grammar: whatever it lets through is what the parser of the same form reads."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from tokenizers import AddedToken

from tests.decoding.matching import Matching
from tests.text.trained import byte_level
from vivace.core.structured import StructuredOutputsParams
from vivace.text.parsers.events import CallArguments, CallBegun, Event, Said, joined
from vivace.text.parsers.tool_calls import PARSERS
from vivace.text.tool_grammar import FORMS, CallRules, tool_grammar

MARK = "[TOOL_CALLS]"
CITY = {"city": {"enum": ["Rome", 'Oslo "]']}}
ON = {"on": {"type": "boolean"}, "n": {"type": "integer", "minimum": 0, "maximum": 9}}


def schema(properties: dict[str, Any]) -> dict[str, Any]:
    named = {"type": "object", "properties": properties, "required": list(properties)}
    return {**named, "additionalProperties": False}


FUNCTIONS = (("get", schema(CITY)), ("put", schema(ON)))


@pytest.fixture(scope="module", params=["mark is text", "mark is a token"])
def model(request: pytest.FixtureRequest) -> Iterator[Matching]:
    rust = byte_level()
    if request.param == "mark is a token":
        rust.add_special_tokens([AddedToken(mark, special=True) for mark in (MARK, "<tool_call>")])
    model = Matching(rust)
    yield model
    model.close()


def constraint(model: Matching, form: str, rules: CallRules) -> StructuredOutputsParams:
    grammar = tool_grammar(FORMS[form], rules, model.rust.token_to_id)
    return StructuredOutputsParams(grammar=grammar)


def read(form: str, text: str) -> list[Event]:
    parser = PARSERS[form]([name for name, _ in FUNCTIONS])
    return joined([*parser.feed(text), *parser.finish()])


def call(form: str, name: str, arguments: str) -> str:
    return f'{{"name": "{name}", "{"parameters" if form == "llama3_json" else "arguments"}": ' + (
        arguments + "}"
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("parallel", [False, True])
def test_what_must_be_calls_is_read_as_calls(model: Matching, form: str, parallel: bool) -> None:
    rules = CallRules(FUNCTIONS, required=True, parallel=parallel)
    most = 0
    for seed in range(12):
        events = read(form, model.says(constraint(model, form, rules), random.Random(seed)))
        names = [event.name for event in events if isinstance(event, CallBegun)]
        arguments = [json.loads(one.text) for one in events if isinstance(one, CallArguments)]
        assert len(events) == len(names) + len(arguments) == 2 * len(names)
        for name, given in zip(names, arguments, strict=True):
            properties = CITY if name == "get" else ON
            assert (name in ("get", "put"), given.keys()) == (True, properties.keys())
        most = max(most, len(names))
    assert (most > 1) is parallel


GET = '{"city": "Rome"}'
WHOLE = {
    "mistral": (f"{MARK}[", "]", ", "),
    "llama3_json": ("", "", "; "),
}


@pytest.mark.parametrize("form", WHOLE)
def test_what_a_grammar_takes(model: Matching, form: str) -> None:
    begin, end, between = WHOLE[form]
    one = call(form, "get", GET)
    two = between.join([one, call(form, "put", '{"on": true, "n": 3}')])
    required = constraint(model, form, CallRules(FUNCTIONS, required=True, parallel=True))
    single = constraint(model, form, CallRules(FUNCTIONS, required=True, parallel=False))
    assert model.takes(required, begin + one + end)
    assert model.takes(required, begin + two + end)
    assert not model.takes(single, begin + two + end)
    for bad in (
        call(form, "rm", GET),
        call(form, "get", '{"city": "Bonn"}'),
        call(form, "put", GET),
        one[:-1],
        one + between,
    ):
        assert not model.takes(required, begin + bad + end), bad
    assert not model.takes(required, "Hello.")


@pytest.mark.parametrize("form", WHOLE)
def test_a_free_answer_is_text_or_calls(model: Matching, form: str) -> None:
    begin, end, _ = WHOLE[form]
    free = constraint(model, form, CallRules(FUNCTIONS, required=False, parallel=False))
    one = begin + call(form, "get", GET) + end
    assert model.takes(free, "Hello {}.\nBye.")
    assert model.takes(free, one)
    assert not model.takes(free, one + one)
    assert not model.takes(free, begin + '{"a": 1}')
    assert model.takes(free, f"So: {one}")
    assert isinstance(read(form, f"So: {one}")[0], Said)
