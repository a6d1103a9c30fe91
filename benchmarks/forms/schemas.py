"""Random JSON schemas of the common kinds, each with a bound on the length of its instances.

A schema holds at most `LEAVES` values that are no object and no array, however its arrays are
filled. Strings whose pattern or format has no end have a largest length, numbers have a range, and
objects take no property that is not named.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from typing import Any

from forms.patterns import simple_pattern

Schema = dict[str, Any]

LEAVES = 10
DEPTH = 3
PROPERTIES = 5
ITEMS = 4
LONGEST = 24  # characters of a string
ADDRESS = 40  # of an e-mail address
ODD = ('"', "\\", " ", "é", "名", "\n")
FORMATS = ("date", "time", "date-time", "email", "uuid", "ipv4")


def schemas(count: int, seed: int) -> list[Schema]:
    return [_Writer(random.Random(f"{seed}/{number}")).schema() for number in range(count)]


class _Writer:
    """Writes one schema."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._definitions: dict[str, Schema] = {}
        self._leaves: tuple[Callable[[], Schema], ...] = (
            self._enum,
            self._constant,
            self._integer,
            self._number,
            self._text,
            self._text,
            self._pattern,
            self._format,
            lambda: {"type": "boolean"},
            lambda: {"type": ["integer", "null"], "minimum": 0, "maximum": 99},
        )

    def schema(self) -> Schema:
        """An object mostly, as people ask for."""
        often = self._rng.random() < 0.8
        whole = self._object(LEAVES, DEPTH) if often else self._value(LEAVES, DEPTH)
        return {**whole, "$defs": self._definitions} if self._definitions else whole

    def _value(self, leaves: int, depth: int) -> Schema:
        if leaves < 2 or not depth:
            return self._rng.choice(self._leaves)()
        kinds = (self._object, self._array, self._tuple, self._any_of, self._reference)
        (kind,) = self._rng.choices((*kinds, None), (5, 4, 1, 2, 2, 4))
        return self._rng.choice(self._leaves)() if kind is None else kind(leaves, depth - 1)

    def _object(self, leaves: int, depth: int) -> Schema:
        names = self._names(self._rng.randint(1, min(leaves, PROPERTIES)))
        properties = {name: self._value(leaves // len(names), depth) for name in names}
        required = [name for name in names if self._rng.random() < 0.7]
        whole = {"type": "object", "properties": properties, "additionalProperties": False}
        return {**whole, "required": required} if required else whole

    def _array(self, leaves: int, depth: int) -> Schema:
        most = self._rng.randint(1, min(leaves, ITEMS))
        items = self._value(leaves // most, depth)
        least = self._rng.randint(0, most)
        return {"type": "array", "items": items, "minItems": least, "maxItems": most}

    def _tuple(self, leaves: int, depth: int) -> Schema:
        parts = [self._value(leaves // 2, depth) for _ in range(2)]
        return {"type": "array", "prefixItems": parts, "items": False, "minItems": 2}

    def _any_of(self, leaves: int, depth: int) -> Schema:
        parts = [self._value(leaves, depth) for _ in range(self._rng.randint(2, 3))]
        return {"anyOf": parts}

    def _reference(self, leaves: int, depth: int) -> Schema:
        meant = self._value(leaves, depth)
        name = f"d{len(self._definitions)}"
        self._definitions[name] = meant
        return {"$ref": f"#/$defs/{name}"}

    def _enum(self) -> Schema:
        words: list[Any] = self._names(self._rng.randint(2, 5))
        return {"enum": words if self._rng.random() < 0.7 else [*words, 0, 1.5, None, True]}

    def _constant(self) -> Schema:
        return {"const": self._rng.choice([self._names(1)[0], 7, True, None, {"a": [1, "b"]}])}

    def _integer(self) -> Schema:
        return {"type": "integer", **self._range()}

    def _number(self) -> Schema:
        return {"type": "number", **self._range()}

    def _range(self) -> Schema:
        low = self._rng.randint(-1000, 1000)
        high = low + self._rng.choice([3, 10, 100, 5000])
        lower = self._rng.choice(["minimum", "exclusiveMinimum"])
        upper = self._rng.choice(["maximum", "exclusiveMaximum"])
        return {lower: low, upper: high}

    def _text(self) -> Schema:
        most = self._rng.randint(1, LONGEST)
        least = self._rng.choice([0, self._rng.randint(0, most)])
        return {"type": "string", "minLength": least, "maxLength": most}

    def _pattern(self) -> Schema:
        return {"type": "string", "pattern": f"^{simple_pattern(self._rng)}$"}

    def _format(self) -> Schema:
        kind = self._rng.choice(FORMATS)
        bound = {"maxLength": ADDRESS} if kind == "email" else {}
        return {"type": "string", "format": kind, **bound}

    def _names(self, count: int) -> list[str]:
        """Different words; some need escapes in JSON or are no ASCII."""
        names: dict[str, None] = {}
        while len(names) < count:
            word = "".join(self._rng.choices(string.ascii_lowercase, k=self._rng.randint(1, 9)))
            odd = self._rng.random() < 0.1
            names[word + self._rng.choice(['"', "\\", " ", "é", "名", "\n"]) if odd else word] = (
                None
            )
        return list(names)
