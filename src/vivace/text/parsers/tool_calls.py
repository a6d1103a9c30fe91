"""Calls of tools in an answer, in the forms in which models were taught to write them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import ClassVar

from vivace.text.held import num_held
from vivace.text.parsers.call import CallReader
from vivace.text.parsers.events import CallArguments, CallBegun, Event, Said
from vivace.text.parsers.json_object import JsonObject


class ToolCallParser(ABC):
    """Content until a call begins; what looks like a call and is none is content as well.

    Space before a call, and between calls, belongs to nothing.

    Args:
        names: functions that there are.
    """

    marks: ClassVar[tuple[str, ...]]

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._held = ""
        self._num_calls = 0
        self._call: CallReader | None = None

    def feed(self, text: str) -> list[Event]:
        self._held += text
        events: list[Event] = []
        while True:
            before = (len(self._held), self._call)
            events += self._next()
            if (len(self._held), self._call) == before or not self._held:
                return events

    def finish(self) -> list[Event]:
        held, call = self._held, self._call
        self._held, self._call = "", None
        if call is not None and not call.begun:
            return [Said(self._opening + call.text + held)]
        return self._said(held) if not self._num_calls or held.strip() else []

    _opening = ""  # the mark of the call that is being read, as it stood there

    def _next(self) -> list[Event]:
        """What the held text says, as far as it can be told; it takes that away from it."""
        if self._call is None:
            return self._outside()
        events, self._held = self._call.feed(self._held)
        if self._call.complete:
            call, self._call = self._call, None
            if not call.begun:
                return [*events, Said(self._opening + call.text)]
            self._num_calls += 1
        return events

    @abstractmethod
    def _outside(self) -> list[Event]:
        """As `_next`, where no call is being read."""

    def _begin(self, opening: str, skipped: int) -> None:
        """A call begins with the held text less so many characters."""
        self._opening = opening
        self._held = self._held[skipped:]
        self._call = CallReader(self._num_calls, self._names)

    def _content(self, marks: tuple[str, ...]) -> list[Event]:
        """What of the held text is surely content, and not the space before a call."""
        sure = len(self._held) - num_held(self._held, marks)
        sure = len(self._held[:sure].rstrip())
        said, self._held = self._held[:sure], self._held[sure:]
        return self._said(said)

    @staticmethod
    def _said(text: str) -> list[Event]:
        return [Said(text)] if text else []


class HermesParser(ToolCallParser):
    """`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`: Hermes, Qwen 2.5 and 3."""

    marks = ("<tool_call>", "</tool_call>")

    def _outside(self) -> list[Event]:
        begin, end = self.marks
        text = self._held.lstrip()
        if self._num_calls and (text.startswith(end) or end.startswith(text)):
            self._held = text[len(end) :] if text.startswith(end) else text
            return []
        place = self._held.find(begin)
        if place < 0:
            return self._content((begin,))
        said, self._held = self._held[:place].rstrip(), self._held[place:]
        inner = self._held[len(begin) :].lstrip()
        if inner.startswith("{"):
            self._begin(begin, len(self._held) - len(inner))
        elif inner:
            return [*self._said(said), *self._no_call(begin)]
        return self._said(said)

    def _no_call(self, begin: str) -> list[Event]:
        self._held = self._held[len(begin) :]
        return [Said(begin)]


class Llama3Parser(ToolCallParser):
    """The whole answer is `{"name": ..., "parameters": {...}}`, perhaps behind <|python_tag|>, and
    perhaps several of them with semicolons between: Llama 3.1 and later."""

    marks = ("<|python_tag|>",)
    _plain = False  # no call can follow

    def _outside(self) -> list[Event]:
        (mark,) = self.marks
        text = self._held.lstrip(" \t\r\n;," if self._num_calls else None)
        if self._plain:
            said, self._held = self._held, ""
            return self._said(said)
        if not text or (mark.startswith(text) and text != mark):
            return []
        inner = text.removeprefix(mark).lstrip()
        if inner.startswith("{"):
            opening = text[: len(text) - len(inner)]
            self._begin(opening, len(self._held) - len(inner))
        elif inner:
            self._plain = True
        return []

    def _next(self) -> list[Event]:
        calling = self._call is not None
        events = super()._next()
        if calling and self._call is None and events and isinstance(events[-1], Said):
            self._plain = True  # what was no call is an answer in JSON
        return events


class MistralParser(ToolCallParser):
    """`[TOOL_CALLS]` before a list of calls, or before each name with its arguments behind it."""

    marks = ("[TOOL_CALLS]", "[ARGS]")
    _listed = False
    _arguments: JsonObject | None = None

    def _outside(self) -> list[Event]:
        begin, _ = self.marks
        if self._arguments is not None:
            return self._more_arguments(self._arguments)
        if self._listed:
            return self._in_list()
        place = self._held.find(begin)
        if place < 0:
            return self._content((begin,))
        said, self._held = self._held[:place].rstrip(), self._held[place:]
        inner = self._held[len(begin) :].lstrip()
        if inner.startswith("["):
            self._listed = True
            self._held = inner[1:]
            return self._said(said)
        return [*self._said(said), *self._named(inner)]

    def finish(self) -> list[Event]:
        if self._arguments is not None or self._listed:
            self._held = self._held.strip(" \t\r\n,]")
        return super().finish()

    def _in_list(self) -> list[Event]:
        text = self._held.lstrip(" \t\r\n,")
        if text.startswith("{"):
            self._begin("", len(self._held) - len(text))
        elif text:
            self._listed = False
            self._held = text.removeprefix("]")
        return []

    def _named(self, inner: str) -> list[Event]:
        """`name{...}`, or `name[ARGS]{...}`, behind the mark."""
        begin, mark = self.marks
        head, brace, _ = inner.partition("{")
        name = head.strip().removesuffix(mark).strip()
        if brace and name in self._names:
            self._held = inner[len(head) :]
            self._arguments = JsonObject()
            return [CallBegun(self._num_calls, name)]
        could = any(known.startswith(name) or name.startswith(known) for known in self._names)
        if brace or not could:
            self._held = self._held[len(begin) :]
            return [Said(begin)]
        return []

    def _more_arguments(self, arguments: JsonObject) -> list[Event]:
        start = len(arguments.text)
        self._held = arguments.feed(self._held)
        new = arguments.text[start:]
        index = self._num_calls
        if arguments.complete:
            self._arguments = None
            self._num_calls += 1
        return [CallArguments(index, new)] if new else []


PARSERS: dict[str, type[ToolCallParser]] = {
    "hermes": HermesParser,
    "llama3_json": Llama3Parser,
    "mistral": MistralParser,
}
