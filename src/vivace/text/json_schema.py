"""JSON schemas corrected where llguidance (1.9) allows more than they do.

Its own formats of dates let every February have 29 days and every minute a 61st second. A class of
characters that has the character 0 in it, as those have that say what they exclude, allows escaped
quotes and backslashes, too, whether it excludes them or not.
"""

from __future__ import annotations

import re
from typing import Any

_YEAR = "([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_LEAP_YEAR = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][48]|[2468]0|[13579][26])00)"
_DAY = f"({_YEAR}-(0[13-9]|1[0-2])-..|{_YEAR}-02-([01].|2[0-8])|{_LEAP_YEAR}-02-29)"
# What else there is to a format is llguidance's.
_PATTERNS = {"date": f"^{_DAY}", "time": "^.{6}[0-5]", "date-time": f"^{_DAY}.{{7}}[0-5]"}
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_VALUES = ("const", "enum", "default", "examples")
_EXCLUDES = re.compile(r"\\.|\[\^", re.DOTALL)  # an escaped bracket begins nothing


def corrected(schema: Any) -> Any:
    """The schema with a pattern beside each format of a date, and classes that exclude the
    character 0. There is no year 0 and no leap second, which Python's dates do not know either."""
    if isinstance(schema, list):
        return [corrected(one) for one in schema]
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
        names = map(_without_nul, value) if key == "patternProperties" else value
        return {name: corrected(one) for name, one in zip(names, value.values(), strict=True)}
    if key == "pattern" and isinstance(value, str):
        return _without_nul(value)
    return corrected(value)


def _without_nul(pattern: str) -> str:
    return _EXCLUDES.sub(lambda found: r"[^\x00" if found[0] == "[^" else found[0], pattern)
