"""One call of a function, written as a JSON object with its name and its arguments."""

from __future__ import annotations

from collections.abc import Collection

from vivace.text.parsers.events import CallArguments, CallBegun, Event
from vivace.text.parsers.json_object import JsonObject

ARGUMENTS = ("arguments", "parameters")


class CallReader:
    """Reads `{"name": ..., "arguments": {...}}`, with the keys in either order.

    Args:
        index: the call's place among the answer's.
        names: functions that there are; a call of another is none.

    Attributes:
        begun: whether the call was told of; then it is one, whatever follows.
    """

    def __init__(self, index: int, names: Collection[str]) -> None:
        self.begun = False
        self._index = index
        self._names = names
        self._object = JsonObject()
        self._told = 0  # characters of the arguments

    @property
    def text(self) -> str:
        return self._object.text

    @property
    def complete(self) -> bool:
        """Whether the object has ended; where it has not `begun` by then, it is no call."""
        return self._object.complete

    def feed(self, text: str) -> tuple[list[Event], str]:
        """What is new of the call, and the text behind its end."""
        rest = self._object.feed(text)
        name = self._object.string("name")
        if name is None or name not in self._names:
            return [], rest
        arguments = self._arguments()
        if arguments is None:
            return [], rest
        events: list[Event] = [] if self.begun else [CallBegun(self._index, name)]
        self.begun = True
        if new := arguments[self._told :]:
            events.append(CallArguments(self._index, new))
        self._told = len(arguments)
        return events, rest

    def _arguments(self) -> str | None:
        """As far as they are known; None where they have not begun, or are none."""
        found = self._object
        key = next((key for key in found.values if key in ARGUMENTS), None)
        if key is None:
            return "{}" if found.complete and set(found.values) == {"name"} else None
        start, end = found.values[key]
        value = found.text[start:end].strip()
        if value.startswith("{"):
            return value
        return found.string(key)  # some models write them as JSON within a string
