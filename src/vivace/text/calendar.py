"""Dates and times in JSON schemas, as the calendar has them: llguidance's own formats let every
February have 29 days and every minute a 61st second."""

from __future__ import annotations

from typing import Any

_YEAR = "([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_LEAP_YEAR = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][48]|[2468]0|[13579][26])00)"
_DAY = f"({_YEAR}-(0[13-9]|1[0-2])-..|{_YEAR}-02-([01].|2[0-8])|{_LEAP_YEAR}-02-29)"
# What else there is to a format is llguidance's.
_PATTERNS = {"date": f"^{_DAY}", "time": "^.{6}[0-5]", "date-time": f"^{_DAY}.{{7}}[0-5]"}
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_VALUES = ("const", "enum", "default", "examples")


def with_calendar(schema: Any) -> Any:
    """The schema with a pattern beside each of these formats. There is no year 0 and no leap
    second, which Python's dates do not know either."""
    if isinstance(schema, list):
        return [with_calendar(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _part(key, value) for key, value in schema.items()}
    kind = found.get("format")
    if not isinstance(kind, str) or kind not in _PATTERNS:
        return found
    return {**found, "allOf": [*found.get("allOf", ()), {"pattern": _PATTERNS[kind]}]}


def _part(key: str, value: Any) -> Any:
    if key in _VALUES:
        return value
    if key in _NAMED and isinstance(value, dict):
        return {name: with_calendar(one) for name, one in value.items()}
    return with_calendar(value)
