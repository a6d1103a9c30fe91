"""A JSON object read as it comes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field


@dataclass
class JsonObject:
    """Follows an object's text to its end, and notes where the values of its own keys stand.

    It does not check what stands between: a model's mistakes go to whoever reads the values.

    Attributes:
        text: what was read; the first character is the opening brace.
        complete: whether the closing brace was read.
        values: for each key of the object itself, at its first place, the [start, end) of its
            value, perhaps with space around it; the last one's end is None until it is known.
    """

    text: str = ""
    complete: bool = False
    values: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    _depth: int = 0
    _string: int | None = None  # where the string that is being read began
    _escaped: bool = False
    _last_string: tuple[int, int] = (0, 0)
    _key: str | None = None  # whose value is being read

    def feed(self, text: str) -> str:
        """Take more text; what stands behind the object's end comes back."""
        start = len(self.text)
        self.text += text
        for place in range(start, len(self.text)):
            self._take(self.text[place], place)
            if self.complete:
                rest, self.text = self.text[place + 1 :], self.text[: place + 1]
                return rest
        return ""

    def value(self, key: str) -> str | None:
        """The text of a key's value once it has ended."""
        start, end = self.values.get(key, (0, None))
        return None if end is None else self.text[start:end].strip()

    def string(self, key: str) -> str | None:
        """The value of a key once it has ended, where that is a string."""
        text = self.value(key)
        try:
            value = None if text is None else json.loads(text)
        except ValueError:
            return None
        return value if isinstance(value, str) else None

    def _take(self, letter: str, place: int) -> None:
        if self._string is not None:
            self._in_string(letter, place)
        elif letter == '"':
            self._string = place
        elif letter in "{[":
            self._depth += 1
        elif letter in "}]":
            self._depth -= 1
            if self._depth == 0:
                self._end_value(place)
                self.complete = True
        elif self._depth == 1 and letter == ":" and self._key is None:
            self._begin_value(place + 1)
        elif self._depth == 1 and letter == ",":
            self._end_value(place)

    def _in_string(self, letter: str, place: int) -> None:
        assert self._string is not None
        if self._escaped:
            self._escaped = False
        elif letter == "\\":
            self._escaped = True
        elif letter == '"':
            self._last_string = (self._string, place + 1)
            self._string = None

    def _begin_value(self, place: int) -> None:
        start, end = self._last_string
        try:
            key = str(json.loads(self.text[start:end]))
        except ValueError:
            return
        if key not in self.values:
            self._key = key
            self.values[key] = (place, None)

    def _end_value(self, place: int) -> None:
        if self._key is not None:
            self.values[self._key] = (self.values[self._key][0], place)
            self._key = None
