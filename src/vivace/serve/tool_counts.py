"""Counts answers that were read for calls of tools, under vLLM's name."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from prometheus_client import CollectorRegistry, Counter

from vivace.serve.engine_metrics import LABELS
from vivace.text.parsers.events import CallBegun, Event, Parser

MODES = ("streaming", "non_streaming")
OUTCOMES = ("tool_call", "no_tool_call")
# vLLM's names for the APIs, by what the ids of their answers begin with; the rest are "other".
REQUEST_TYPES = {"chatcmpl-": "chat_completions", "resp_": "responses"}


class CountedParser:
    """A parser that says, when an answer has ended, whether there was a call in it."""

    def __init__(self, parser: Parser, ended: Callable[[bool], None]) -> None:
        self._parser = parser
        self._ended = ended
        self._called = False

    def feed(self, text: str) -> list[Event]:
        return self._seen(self._parser.feed(text))

    def finish(self) -> list[Event]:
        found = self._seen(self._parser.finish())
        self._ended(self._called)
        return found

    def _seen(self, events: list[Event]) -> list[Event]:
        self._called = self._called or any(isinstance(event, CallBegun) for event in events)
        return events


class ToolCounts:
    """Each answer counts once, streamed or not.

    Args:
        labels: the values of those that all metrics have.
    """

    def __init__(self, labels: tuple[str, str], registry: CollectorRegistry) -> None:
        counter = Counter(
            "vllm:tool_call_parser_invocations",
            "Answers that were read for calls of tools.",
            (*LABELS, "mode", "outcome", "request_type"),
            registry=registry,
        )
        kinds = product(MODES, OUTCOMES, (*REQUEST_TYPES.values(), "other"))
        self._counters = {kind: counter.labels(*labels, *kind) for kind in kinds}

    def ended(self, id_prefix: str, streams: bool, called: bool) -> None:
        """An answer of the API whose ids begin so has been read to its end."""
        mode, outcome = MODES[not streams], OUTCOMES[not called]
        self._counters[mode, outcome, REQUEST_TYPES.get(id_prefix, "other")].inc()
