"""Grammars in llguidance's dialect of Lark: the few pieces that ours are written with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vivace.text.json_schema import corrected

ANY_TEXT = r"/(.|\n)*/"
# One space behind each comma and colon, as Python writes JSON, and none elsewhere. A model that may
# put space anywhere may do so for ever.
JSON_OPTIONS: dict[str, Any] = {
    "item_separator": ", ",
    "key_separator": ": ",
    "whitespace_flexible": False,
    "whitespace_pattern": None,
    "coerce_one_of": False,
    "lenient": False,
}


def literal(text: str) -> str:
    """A text as it stands."""
    return json.dumps(text, ensure_ascii=False)


def json_rule(schema: Mapping[str, Any], options: Mapping[str, Any] = JSON_OPTIONS) -> str:
    """An instance of a schema."""
    return f"%json {json.dumps(with_options(schema, options))}"


def with_options(schema: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """A schema as llguidance is to read it."""
    return {**corrected(dict(schema)), "x-guidance": dict(options)}
