"""Reasoning that a model writes before its answer, between <think> and </think>."""

from __future__ import annotations

from typing import Literal

from vivace.text.held import num_held
from vivace.text.parsers.events import Event, Said, Thought

BEGIN, END = "<think>", "</think>"


class ReasoningParser:
    """Whitespace around the marks belongs to neither side.

    Args:
        inside: whether the answer begins in the middle of reasoning, as where the prompt's end has
            opened it. Otherwise it reasons if its first word is <think>.
    """

    def __init__(self, inside: bool) -> None:
        self._where: Literal["start", "inside", "behind", "content"] = (
            "inside" if inside else "start"
        )
        self._begun = False  # the side that it is on has some text
        self._held = ""

    def feed(self, text: str) -> list[Event]:
        self._held += text
        events: list[Event] = []
        while (event := self._next()) is not None:
            events.append(event)
        return events

    def finish(self) -> list[Event]:
        held, self._held = self._held, ""
        if not held or self._where == "behind":
            return []
        return [Thought(held)] if self._where == "inside" and held.strip() else [Said(held)]

    def _next(self) -> Event | None:
        """The next event; None where more text must come first."""
        if self._where == "start":
            self._find_beginning()
        if self._where == "inside":
            return self._thought()
        if self._where == "behind":
            self._held = self._held.lstrip()
            self._where = "content" if self._held else "behind"
        if self._where != "content" or not self._held:
            return None
        said, self._held = self._held, ""
        return Said(said)

    def _find_beginning(self) -> None:
        text = self._held.lstrip()
        if text.startswith(BEGIN):
            self._where, self._held = "inside", text[len(BEGIN) :]
        elif not BEGIN.startswith(text):
            self._where = "content"

    def _thought(self) -> Event | None:
        if not self._begun:
            self._held = self._held.lstrip()
        end = self._held.find(END)
        if end < 0:
            cut = len(self._held) - num_held(self._held, (END,))
            return self._think(len(self._held[:cut].rstrip()))
        thought = self._think(len(self._held[:end].rstrip()))
        if thought is not None:
            return thought
        self._where, self._held = "behind", self._held.lstrip()[len(END) :]
        return self._next()

    def _think(self, count: int) -> Event | None:
        if not count:
            return None
        thought, self._held = self._held[:count], self._held[count:]
        self._begun = True
        return Thought(thought)
