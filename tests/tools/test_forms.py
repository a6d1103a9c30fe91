"""Random forms of benchmarks/forms: what they promise about themselves."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.tiny


def test_a_grammar_knows_its_language() -> None:
    from forms.grammars import Grammar, Symbol

    number = (Symbol("class", "[0-9]"),)
    nested = (Symbol("text", "("), Symbol("rule", "0"), Symbol("text", ")"))
    grammar = Grammar(((nested, number),))
    for text, expected in (
        ("7", True),
        ("((7))", True),
        ("((7)", False),
        ("", False),
        ("77", False),
    ):
        assert grammar.matches(text) is expected
    assert grammar.lark() == 'start: r0\nr0: "(" r0 ")" | /[0-9]/\n'


def test_forms_are_the_same_for_a_seed() -> None:
    from forms.grammars import grammars
    from forms.patterns import patterns
    from forms.schemas import schemas

    for make in (grammars, patterns, schemas):
        assert make(20, 1) == make(20, 1) != make(20, 2)  # type: ignore[operator]


def test_patterns_are_regexes_with_an_end() -> None:
    from forms.patterns import patterns

    for pattern in patterns(100, 0):
        re.compile(pattern)
        assert not re.search(r"(?<!\\)[*+]", pattern)
