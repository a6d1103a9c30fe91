"""Calls by grammar: whatever it lets through is what the parser of the same form reads."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from tokenizers import AddedToken
from tokenizers import Tokenizer as RustTokenizer

from tests.text.trained import byte_level
from vivace.core.structured import StructuredOutputsParams
from vivace.decoding.compiling import Compiler
from vivace.text.parsers.events import CallArguments, CallBegun, Event, Said, joined
from vivace.text.parsers.tool_calls import PARSERS
from vivace.text.tokenizer import Tokenizer
from vivace.text.tool_grammar import FORMS, CallRules, tool_grammar

MARK = "[TOOL_CALLS]"
CITY = {"city": {"enum": ["Rome", 'Oslo "]']}}
ON = {"on": {"type": "boolean"}, "n": {"type": "integer", "minimum": 0, "maximum": 9}}


def schema(properties: dict[str, Any]) -> dict[str, Any]:
    named = {"type": "object", "properties": properties, "required": list(properties)}
    return {**named, "additionalProperties": False}


FUNCTIONS = (("get", schema(CITY)), ("put", schema(ON)))


class Model:
    """A tokenizer, and texts that it writes under a grammar."""

    def __init__(self, rust: RustTokenizer) -> None:
        self.tokenizer = Tokenizer(rust, {"eos_token": "</s>"})
        self.end = rust.token_to_id("</s>")
        self._rust = rust
        self._compiler = Compiler(self.tokenizer, rust.get_vocab_size(), [self.end])

    def close(self) -> None:
        self._compiler.close()

    def matcher(self, form: str, rules: CallRules) -> Any:
        grammar = tool_grammar(FORMS[form], rules, self._rust.token_to_id)
        params = StructuredOutputsParams(grammar=grammar)
        self._compiler.begin(params)
        self._compiler.wait([params], 10)
        return self._compiler.matcher(params)

    def takes(self, form: str, rules: CallRules, text: str) -> bool:
        """Whether the text is a whole answer."""
        matcher = self.matcher(form, rules)
        ids = self._rust.encode(text, add_special_tokens=False).ids
        return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()

    def says(self, form: str, rules: CallRules, rng: random.Random) -> str:
        """Tokens drawn at random; where it may end, it does so every second time."""
        matcher, ids = self.matcher(form, rules), []
        while not (matcher.is_accepting() and rng.random() < 0.5):
            allowed = [token for token, bias in enumerate(matcher.compute_logit_bias()) if bias]
            if allowed == [self.end]:
                break
            ids.append(rng.choice([token for token in allowed if token != self.end]))
            assert matcher.consume_token(ids[-1])
        return str(self._rust.decode(ids, skip_special_tokens=False))


@pytest.fixture(scope="module", params=["mark is text", "mark is a token"])
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    rust = byte_level()
    if request.param == "mark is a token":
        rust.add_special_tokens([AddedToken(mark, special=True) for mark in (MARK, "<tool_call>")])
    model = Model(rust)
    yield model
    model.close()


def read(form: str, text: str) -> list[Event]:
    parser = PARSERS[form]([name for name, _ in FUNCTIONS])
    return joined([*parser.feed(text), *parser.finish()])


def call(form: str, name: str, arguments: str) -> str:
    return f'{{"name": "{name}", "{"parameters" if form == "llama3_json" else "arguments"}": ' + (
        arguments + "}"
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("parallel", [False, True])
def test_what_must_be_calls_is_read_as_calls(model: Model, form: str, parallel: bool) -> None:
    rules = CallRules(FUNCTIONS, required=True, parallel=parallel)
    most = 0
    for seed in range(12):
        events = read(form, model.says(form, rules, random.Random(seed)))
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
def test_what_a_grammar_takes(model: Model, form: str) -> None:
    begin, end, between = WHOLE[form]
    one = call(form, "get", GET)
    two = between.join([one, call(form, "put", '{"on": true, "n": 3}')])
    required = CallRules(FUNCTIONS, required=True, parallel=True)
    assert model.takes(form, required, begin + one + end)
    assert model.takes(form, required, begin + two + end)
    assert not model.takes(form, CallRules(FUNCTIONS, True, False), begin + two + end)
    for bad in (
        call(form, "rm", GET),
        call(form, "get", '{"city": "Bonn"}'),
        call(form, "put", GET),
        one[:-1],
        one + between,
    ):
        assert not model.takes(form, required, begin + bad + end), bad
    assert not model.takes(form, required, "Hello.")


@pytest.mark.parametrize("form", WHOLE)
def test_a_free_answer_is_text_or_calls(model: Model, form: str) -> None:
    begin, end, _ = WHOLE[form]
    free = CallRules(FUNCTIONS, required=False, parallel=False)
    one = begin + call(form, "get", GET) + end
    assert model.takes(form, free, "Hello {}.\nBye.")
    assert model.takes(form, free, one)
    assert not model.takes(form, free, one + one)
    assert not model.takes(form, free, begin + '{"a": 1}')
    assert model.takes(form, free, f"So: {one}")
    assert isinstance(read(form, f"So: {one}")[0], Said)
