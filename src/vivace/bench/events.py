"""Reading the stream of an answer: server-sent events, and the chunks of OpenAI's API in them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from vivace.bench.outcome import Outcome

DONE = b"[DONE]"


class AnswerError(Exception):
    """The server's answer is an error, or makes no sense; the text says which."""


class EventReader:
    """Takes bytes as they come and gives the data of whole events; comments are left out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Every provider sends an event's JSON as one data line, so a line is an event."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]

    def end(self) -> list[bytes]:
        """The last event, where the stream ended without ending its line."""
        return self.feed(b"\n")


@dataclass
class AnswerClock:
    """Collects one answer: when its tokens came, and what they were.

    A chunk of text counts as one moment, however many tokens it holds. Two kinds of chunk are no
    token: the one with which a chat only names its role, and an end without text, which counts in
    the latency alone.

    Attributes:
        sent: when the request was sent, on the clock of all times given.
        last: when the last chunk with a choice came.
    """

    sent: float
    last: float | None = None
    moments: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)

    def take(self, event: bytes, now: float) -> None:
        """Raises AnswerError: the event is an error, or not a chunk."""
        if event == DONE:
            return
        chunk = _chunk(event)
        try:
            self.usage = chunk.get("usage") or self.usage
            for choice in (chunk.get("choices") or ())[:1]:
                self._take(choice, now)
        except (AttributeError, TypeError) as error:
            raise AnswerError(f"The stream holds what is not a chunk: {_shown(event)}") from error

    def _take(self, choice: dict[str, Any], now: float) -> None:
        self.last = now
        text = _text(choice)
        if text or choice.get("token_ids") or not _is_framing(choice):
            self.moments.append(now)
            self.texts.append(text)

    def outcome(self, started: float, prompt_tokens: int | None) -> Outcome:
        """The finished answer.

        Args:
            started: when the run began, on the same clock.
            prompt_tokens: as they were sent, where that is known.

        Raises:
            AnswerError: the stream brought no token.
        """
        if self.last is None or not self.moments:
            raise AnswerError("The answer ended without a token.")
        counted = self.usage.get("completion_tokens")
        return Outcome(
            start=self.sent - started,
            input_len=self.usage.get("prompt_tokens") or prompt_tokens,
            output_len=counted or len(self.moments),
            counted=bool(counted),
            ttft=self.moments[0] - self.sent,
            itls=tuple(b - a for a, b in zip(self.moments, self.moments[1:], strict=False)),
            latency=self.last - self.sent,
            text="".join(self.texts),
        )


def _chunk(event: bytes) -> dict[str, Any]:
    try:
        chunk = json.loads(event)
    except ValueError:
        chunk = None
    if not isinstance(chunk, dict):
        raise AnswerError(f"The stream holds what is not a JSON object: {_shown(event)}")
    if chunk.get("error"):
        raise AnswerError(f"The stream ended in an error: {_shown(event)}")
    return chunk


def _text(choice: dict[str, Any]) -> str:
    delta = choice.get("delta")
    if delta is None:
        return choice.get("text") or ""
    # Reasoning models put what they think beside the answer; both are tokens.
    thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
    return (delta.get("content") or "") + thought


def _is_framing(choice: dict[str, Any]) -> bool:
    return bool(choice.get("finish_reason")) or "role" in (choice.get("delta") or {})


def _shown(data: bytes) -> str:
    return data[:300].decode(errors="replace")
