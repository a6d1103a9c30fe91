"""Traces: who asks what and when, as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from vivace.core.errors import UsageError
from vivace.core.kinds import is_integer, is_number
from vivace.core.request import Request
from vivace.core.sampling import SamplingParams

FIELDS = {
    "arrival_seconds",
    "prompt_tokens",
    "prompt_len",
    "prefix_id",
    "prefix_len",
    "max_tokens",
    "priority",
    "tenant",
    "deadline",
}


@dataclass(frozen=True)
class TraceRow:
    """One request of a trace. Its answer has exactly `max_tokens` tokens.

    Attributes:
        line: where it stands in its file, counted from 1.
        arrival_seconds: after the trace began.
        prompt_tokens: token ids; None for random ones.
        prompt_len: how many there are.
        prefix_id: random prompts of equal prefix_id begin alike; None shares with nobody.
        prefix_len: with how many tokens.
        priority: lower runs earlier.
        tenant: for whom it is.
        deadline: seconds after the trace began, or None.
    """

    line: int
    arrival_seconds: float
    prompt_tokens: tuple[int, ...] | None
    prompt_len: int
    prefix_id: str | None
    prefix_len: int
    max_tokens: int
    priority: int = 0
    tenant: str = ""
    deadline: float | None = None


def read_trace(path: Path) -> list[TraceRow]:
    """The rows of a file in the order of their arrival.

    Raises:
        UsageError: the file cannot be read or is empty, or a line is wrong: which, and how.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise UsageError(f"The trace {path} cannot be read: {error}.") from error
    rows = [_row(text, path, line) for line, text in enumerate(lines, 1) if text.strip()]
    if not rows:
        raise UsageError(f"{path} holds no requests.")
    return sorted(rows, key=lambda row: row.arrival_seconds)


def make_requests(rows: Sequence[TraceRow], vocab_size: int, max_model_len: int) -> list[Request]:
    """The rows as requests, for an engine on whose clock the trace begins at 0.

    Raises:
        UsageError: a request does not fit the context, or has a token that the model lacks.
    """
    return [_request(row, vocab_size, max_model_len) for row in rows]


def _request(row: TraceRow, vocab_size: int, max_model_len: int) -> Request:
    if row.prompt_len + row.max_tokens > max_model_len:
        raise UsageError(
            f"Line {row.line} of the trace needs {row.prompt_len + row.max_tokens} tokens, but "
            f"the context is {max_model_len}; shorten it."
        )
    prompt = row.prompt_tokens or _random_prompt(row, vocab_size)
    if max(prompt) >= vocab_size:
        raise UsageError(f"Line {row.line} of the trace has a token id above {vocab_size - 1}.")
    return Request(
        request_id=f"trace-{row.line}",
        prompt_token_ids=prompt,
        params=SamplingParams(temperature=0.0, max_tokens=row.max_tokens, ignore_eos=True),
        arrival=row.arrival_seconds,
        priority=row.priority,
        deadline=row.deadline,
        tenant=row.tenant,
    )


def begun(request: Request, began: float) -> Request:
    """The request for an engine on whose clock the trace begins at `began`."""
    deadline = None if request.deadline is None else began + request.deadline
    return replace(request, arrival=began + request.arrival, deadline=deadline)


def _random_prompt(row: TraceRow, vocab_size: int) -> tuple[int, ...]:
    shared = [] if row.prefix_id is None else [*row.prefix_id.encode()]
    prefix = np.random.default_rng([0, *shared]).integers(0, vocab_size, row.prefix_len)
    own = np.random.default_rng([1, row.line])
    rest = own.integers(0, vocab_size, row.prompt_len - row.prefix_len)
    return (*prefix.tolist(), *rest.tolist())


def _row(text: str, path: Path, line: int) -> TraceRow:
    where = f"{path}, line {line}"
    try:
        given: Any = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{where}: this is no JSON object.") from error
    if not isinstance(given, dict):
        raise UsageError(f"{where}: this is no JSON object.")
    if unknown := set(given) - FIELDS:
        raise UsageError(f"{where}: {min(unknown)!r} is unknown: use {', '.join(sorted(FIELDS))}.")
    read = _Reader(given, where)
    prompt = read.token_ids("prompt_tokens")
    length = read.count("prompt_len", None if prompt is None else len(prompt))
    if prompt is not None and (length != len(prompt) or "prefix_id" in given):
        raise UsageError(f"{where}: prompt_tokens take no prompt_len and no prefix_id.")
    prefix_id = read.text("prefix_id")
    prefix_len = read.count("prefix_len", length, least=0) if prefix_id is not None else 0
    return TraceRow(
        line=line,
        arrival_seconds=read.seconds("arrival_seconds", 0.0) or 0.0,
        prompt_tokens=prompt,
        prompt_len=length,
        prefix_id=prefix_id,
        prefix_len=min(prefix_len, length),
        max_tokens=read.count("max_tokens", None),
        priority=read.count("priority", 0, least=-inf),
        tenant=read.text("tenant") or "",
        deadline=read.seconds("deadline", None),
    )


@dataclass(frozen=True)
class _Reader:
    """Checked values of one line."""

    given: Mapping[str, Any]
    where: str

    def count(self, name: str, default: int | None, least: float = 1) -> int:
        value = self.given.get(name, default)
        if not is_integer(value) or value < least:
            raise self._wrong(name, "an integer" + ("" if least == -inf else f" from {least:g} on"))
        return int(value)

    def seconds(self, name: str, default: float | None) -> float | None:
        value = self.given.get(name, default)
        if value is None:
            return None
        if not is_number(value) or not 0 <= value < inf:
            raise self._wrong(name, "a number of seconds from 0 on")
        return float(value)

    def text(self, name: str) -> str | None:
        value = self.given.get(name)
        if value is not None and not isinstance(value, str):
            raise self._wrong(name, "text")
        return value

    def token_ids(self, name: str) -> tuple[int, ...] | None:
        value = self.given.get(name)
        if value is None:
            return None
        if not (isinstance(value, list) and value and all(is_integer(t) and t >= 0 for t in value)):
            raise self._wrong(name, "a list of token ids")
        return tuple(value)

    def _wrong(self, name: str, wanted: str) -> UsageError:
        return UsageError(f'{self.where}: "{name}" must be {wanted}.')
