"""A pattern that excludes quotes or backslashes excludes them escaped, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.decoding.matching import Matching
from tests.text.trained import byte_level
from vivace.core.structured import StructuredOutputsParams

PATTERNS = {
    r'^[^"\\]$': ("\n", "x", "é", "\x01"),
    r'^a[^<>"\\]:$': ("a\n:", "ax:", "a[:"),
    r'^([^"]-){2}$': ("\\-\\-", "x-\n-"),
    r"^\[[^\\]$": ('["', "[^", "[x"),
}
WRONG = {
    r'^[^"\\]$': ('"', "\\", "xx"),
    r'^a[^<>"\\]:$': ("a\\:", 'a":', "a<:"),
    r'^([^"]-){2}$': ('"-x-', 'x-"-'),
    r"^\[[^\\]$": ("[\\", "x"),
}


@pytest.fixture(scope="module")
def matching() -> Iterator[Matching]:
    matching = Matching(byte_level())
    yield matching
    matching.close()


def placed(pattern: str, text: str) -> list[tuple[dict[str, Any], Any]]:
    """The pattern of a value, of one in an object, and of a name; and the text there."""
    one = {"type": "string", "pattern": pattern}
    inside = {"type": "object", "properties": {"pattern": one}, "required": ["pattern"]}
    names = {"type": "object", "patternProperties": {pattern: {"const": 1}}}
    return [
        (one, text),
        ({**inside, "additionalProperties": False}, {"pattern": text}),
        ({**names, "additionalProperties": False}, {text: 1}),
    ]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_excluded_characters_stay_out(matching: Matching, pattern: str) -> None:
    for texts, expected in ((PATTERNS[pattern], True), (WRONG[pattern], False)):
        for schema, value in (pair for text in texts for pair in placed(pattern, text)):
            text = json.dumps(value, ensure_ascii=False)
            taken = matching.takes(StructuredOutputsParams(json=schema), text)
            assert taken is expected, (schema, text)
