"""Reasoning and calls of tools, found however the text is cut."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivace.text.parsers.events import (
    CallArguments,
    CallBegun,
    Event,
    Parser,
    Said,
    Thought,
    joined,
)
from vivace.text.parsers.reasoning import ReasoningParser
from vivace.text.parsers.tool_calls import HermesParser, Llama3Parser, MistralParser

pytestmark = pytest.mark.tiny

NAMES = ("get", "put")
MAKE: dict[str, Callable[[], Parser]] = {
    "hermes": lambda: HermesParser(NAMES),
    "llama3_json": lambda: Llama3Parser(NAMES),
    "mistral": lambda: MistralParser(NAMES),
    "thinks": lambda: ReasoningParser(inside=True),
    "may think": lambda: ReasoningParser(inside=False),
}


def read(kind: str, *pieces: str) -> list[Event]:
    parser = MAKE[kind]()
    found = [event for piece in pieces for event in parser.feed(piece)]
    return joined(found + parser.finish())


def call(index: int, name: str, arguments: str) -> list[Event]:
    return [CallBegun(index, name), CallArguments(index, arguments)]


HERMES = '<tool_call>\n{"name": "get", "arguments": {"a": "}\\""}}\n</tool_call>'
CASES: list[tuple[str, str, list[Event]]] = [
    ("hermes", "just text", [Said("just text")]),
    ("hermes", "a < b <tool", [Said("a < b <tool")]),
    ("hermes", HERMES, call(0, "get", '{"a": "}\\""}')),
    ("hermes", f"so:\n{HERMES}", [Said("so:"), *call(0, "get", '{"a": "}\\""}')]),
    (
        "hermes",
        f'{HERMES}\n<tool_call>{{"arguments": {{ }}, "name": "put"}}</tool_call>\n',
        [*call(0, "get", '{"a": "}\\""}'), *call(1, "put", "{ }")],
    ),
    ("hermes", '<tool_call>{"name": "get"}</tool_call>', call(0, "get", "{}")),
    ("hermes", '<tool_call>{"name": "get", "arguments": "{}"}', call(0, "get", "{}")),
    ("hermes", '<tool_call>{"name": "get", "arguments": {"a": [1', call(0, "get", '{"a": [1')),
    ("hermes", "<tool_call>oh</tool_call>", [Said("<tool_call>oh</tool_call>")]),
    (
        "hermes",
        '<tool_call>{"name": "rm", "arguments": {}} ?',
        [Said('<tool_call>{"name": "rm", "arguments": {}} ?')],
    ),
    ("llama3_json", "Hello {}", [Said("Hello {}")]),
    ("llama3_json", '{"name": "get", "parameters": {"a": 1}}', call(0, "get", '{"a": 1}')),
    ("llama3_json", '<|python_tag|>{"name": "get", "parameters": {}}', call(0, "get", "{}")),
    (
        "llama3_json",
        '{"name": "get", "parameters": {}}; {"name": "put", "parameters": {}}',
        [*call(0, "get", "{}"), *call(1, "put", "{}")],
    ),
    ("llama3_json", '{"name": "Bob", "age": 3} {', [Said('{"name": "Bob", "age": 3} {')]),
    ("llama3_json", '{"a": ', [Said('{"a": ')]),
    (
        "mistral",
        'I see. [TOOL_CALLS] [{"name": "get", "arguments": {"a": 1}}, '
        '{"name": "put", "arguments": {}}]',
        [Said("I see."), *call(0, "get", '{"a": 1}'), *call(1, "put", "{}")],
    ),
    (
        "mistral",
        '[TOOL_CALLS]get{"a": 1}[TOOL_CALLS]put[ARGS]{}',
        [*call(0, "get", '{"a": 1}'), *call(1, "put", "{}")],
    ),
    ("mistral", "[TOOL_CALLS]oh no", [Said("[TOOL_CALLS]oh no")]),
    ("mistral", "a [1] [TOOL", [Said("a [1] [TOOL")]),
    ("thinks", "\nhm, so </think>\n\nYes. ", [Thought("hm, so"), Said("Yes. ")]),
    ("thinks", "hm </thin", [Thought("hm </thin")]),
    ("thinks", "</think>Yes", [Said("Yes")]),
    ("may think", "<think>hm</think>Yes </think>", [Thought("hm"), Said("Yes </think>")]),
    ("may think", " a <think>b", [Said(" a <think>b")]),
    ("may think", "<thi", [Said("<thi")]),
    ("may think", "", []),
]


@pytest.mark.parametrize(("kind", "text", "expected"), CASES, ids=str)
def test_what_a_text_says(kind: str, text: str, expected: list[Event]) -> None:
    assert read(kind, text) == expected
    assert read(kind, *text) == expected


PIECES = (
    *("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "[", "]", ";"),
    *("<think>", "</think>", "<", ">", "{", "}", '{"name": "get", ', '"arguments": ', '"a": 1'),
    *('"parameters": ', '"name": "put"', "get", "put", '"', "\\", ",", ":", " ", "\n", "x", "é"),
    *('{"name": "get", "arguments": {"a": [1, "}"]}}', '"{}"'),
)
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@pytest.mark.parametrize("kind", MAKE)
@given(text=TEXTS, data=st.data())
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_however_it_is_cut(kind: str, text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = read(kind, text)
    assert read(kind, *pieces) == whole
    assert read(kind, *text) == whole
