"""Dates and times in schemas are those of the calendar, wherever in a schema they stand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.decoding.matching import Matching
from tests.text.trained import byte_level
from vivace.core.structured import StructuredOutputsParams

GOOD = {
    "date": ("2023-02-28", "2024-02-29", "2000-02-29", "1999-12-31", "0001-01-01", "1000-10-30"),
    "time": ("23:59:59Z", "00:00:00.5+01:00"),
    "date-time": ("2024-02-29T12:30:59Z", "2023-12-31T00:00:00.25-11:30"),
}
BAD = {
    "date": ("2023-02-29", "1900-02-29", "2100-02-29", "0000-01-01", "0000-02-29", "2023-04-31"),
    "time": ("23:59:60Z", "24:00:00Z"),
    "date-time": ("2023-02-29T12:30:59Z", "2023-12-31T23:58:60Z", "2024-02-30T00:00:00Z"),
}


@pytest.fixture(scope="module")
def matching() -> Iterator[Matching]:
    matching = Matching(byte_level())
    yield matching
    matching.close()


def placed(kind: str, text: str) -> list[tuple[dict[str, Any], Any]]:
    """The format in several places, and the text in the same."""
    one = {"type": "string", "format": kind}
    named = {"type": "object", "properties": {"const": one, "format": one}, "required": ["const"]}
    return [
        (one, text),
        ({**named, "additionalProperties": False}, {"const": text}),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": one}}}, [text]),
        ({"anyOf": [{"type": "null"}, {**one, "allOf": [{"maxLength": 30}]}]}, text),
        ({**one, "pattern": "^[0-9]"}, text),
    ]


@pytest.mark.parametrize("kind", GOOD)
def test_what_the_calendar_has(matching: Matching, kind: str) -> None:
    for texts, expected in ((GOOD[kind], True), (BAD[kind], False)):
        for schema, value in (pair for text in texts for pair in placed(kind, text)):
            form = StructuredOutputsParams(json=schema)
            assert matching.takes(form, json.dumps(value)) is expected, (schema, value)


def test_values_are_left_as_they_are(matching: Matching) -> None:
    value = {"format": "date", "properties": {"format": "time"}}
    for schema in ({"const": value}, {"enum": [value]}):
        assert matching.takes(StructuredOutputsParams(json=schema), json.dumps(value))
