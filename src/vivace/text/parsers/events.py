"""What parsers find in an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True)
class Said:
    """More of the content."""

    text: str


@dataclass(frozen=True)
class Thought:
    """More of the reasoning."""

    text: str


@dataclass(frozen=True)
class CallBegun:
    """A call, by its place among the answer's."""

    index: int
    name: str


@dataclass(frozen=True)
class CallArguments:
    """More of a call's arguments, which are JSON as the model writes it."""

    index: int
    text: str


Event: TypeAlias = Said | Thought | CallBegun | CallArguments


class Parser(Protocol):
    """Reads one answer."""

    def feed(self, text: str) -> list[Event]:
        """What more text says."""
        ...

    def finish(self) -> list[Event]:
        """What was held back, once the answer has ended."""
        ...


def joined(events: list[Event]) -> list[Event]:
    """The same with neighbours of one kind put together."""
    found: list[Event] = []
    for event in events:
        last = found[-1] if found else None
        if isinstance(event, Said) and isinstance(last, Said):
            found[-1] = Said(last.text + event.text)
        elif isinstance(event, Thought) and isinstance(last, Thought):
            found[-1] = Thought(last.text + event.text)
        elif (
            isinstance(event, CallArguments)
            and isinstance(last, CallArguments)
            and last.index == event.index
        ):
            found[-1] = CallArguments(last.index, last.text + event.text)
        else:
            found.append(event)
    return found
