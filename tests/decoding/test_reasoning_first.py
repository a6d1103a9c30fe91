"""A constraint that begins behind reasoning: opened by the prompt, by the answer, or not at all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.decoding.matching import Matching
from tests.text.trained import byte_level
from vivace.core.errors import RequestError
from vivace.core.structured import StructuredOutputsParams
from vivace.text.answer_reader import reasoning_first

SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}


@pytest.fixture(scope="module")
def matching() -> Iterator[Matching]:
    matching = Matching(byte_level())
    yield matching
    matching.close()


@pytest.mark.parametrize(
    ("opening", "answers", "others"),
    [
        (
            None,
            ["hm </think>\n\noui", "</think>oui", "a <think></think>\nnon"],
            ["oui", "hm</think>x", "hm", "hm</think>\n\n\noui", "a</think>oui</think>oui"],
        ),
        (
            "<think>",
            ["oui", "<think>hm</think>\n\noui", "<think></think>non", "<think>oui</think>oui"],
            ["hm</think>oui", "<think>oui", "<think>hm</think>", "x", "<think></think>oui oui"],
        ),
    ],
    ids=["opened by the prompt", "opened by the answer"],
)
def test_what_stands_before(
    matching: Matching, opening: str | None, answers: list[str], others: list[str]
) -> None:
    form = StructuredOutputsParams(choice=("oui", "non"), opening=opening, after="</think>")
    assert [one for one in answers if not matching.takes(form, one)] == []
    assert [one for one in others if matching.takes(form, one)] == []


def test_a_schema_behind_it(matching: Matching) -> None:
    form = StructuredOutputsParams(json=SCHEMA, opening="<think>", after="</think>")
    for begin in ("", "<think>\nIs it? {</think>\n\n"):
        assert matching.takes(form, begin + '{"a": true}')
        assert not matching.takes(form, begin + '{"a": 1}')


def test_prompts_say_where_reasoning_begins() -> None:
    for parser, prompt, expected in (
        ("qwen3", "assistant\n", ("<think>", "</think>")),
        ("qwen3", "assistant\n<think>\n", (None, "</think>")),
        ("qwen3", "assistant\n<think>\n\n</think>\n\n", None),
        ("qwen3", "<think>a</think>b assistant\n", ("<think>", "</think>")),
        ("deepseek_r1", "assistant\n", (None, "</think>")),
    ):
        assert reasoning_first(parser, prompt) == expected


def test_an_opening_needs_an_end() -> None:
    with pytest.raises(RequestError, match="opening needs after"):
        StructuredOutputsParams(regex="a", opening="<think>")
