"""The files of a batch, in OpenAI's form: a request on each line, an answer on each line."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from vivace.core.errors import UsageError

PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/score",
    "/v1/rerank",
)
_SERVERS_FAULT = 500  # and above: another run may do better


@dataclass(frozen=True)
class Line:
    """One line of the input.

    Attributes:
        number: from 1.
        custom_id: names the answer; None where the line is too broken to have one.
        path: of the API.
        body: what is posted there.
        wrong: why it cannot be, in a sentence.
    """

    number: int
    custom_id: str | None
    path: str = ""
    body: Mapping[str, Any] | None = None
    wrong: str | None = None

    @property
    def name(self) -> str | int:
        """What its answer is found by."""
        return self.number if self.custom_id is None else self.custom_id


def read_lines(path: Path) -> list[Line]:
    """Every request of a file; empty lines are skipped.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        texts = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).") from error
    lines, seen = [], set()
    for number, text in enumerate(texts, 1):
        if text.strip():
            line = _line(number, text)
            if line.custom_id is not None and line.custom_id in seen:
                line = Line(number, None, wrong=f"custom_id {line.custom_id!r} comes twice.")
            seen.add(line.custom_id)
            lines.append(line)
    return lines


def _line(number: int, text: bytes) -> Line:
    try:
        fields = json.loads(text)
    except ValueError as error:
        return Line(number, None, wrong=f"It is not JSON in UTF-8: {error}.")
    custom_id = fields.get("custom_id") if isinstance(fields, dict) else None
    if not isinstance(custom_id, str):
        return Line(number, None, wrong="It must be an object with a string custom_id.")
    unknown = fields.keys() - {"custom_id", "method", "url", "body"}
    body = fields.get("body")
    if unknown:
        wrong = f"{min(unknown)} is not a field of a batch line."
    elif fields.get("method") != "POST":
        wrong = "method must be POST."
    elif fields.get("url") not in PATHS:
        wrong = f"url must be one of {', '.join(PATHS)}."
    elif not isinstance(body, dict):
        wrong = "body must be an object."
    elif body.get("stream"):
        wrong = "A batch does not stream; leave stream out."
    else:
        return Line(number, custom_id, fields["url"], body)
    return Line(number, custom_id, wrong=wrong)


class Answers:
    """The file of answers, which grows by a line for each as they come.

    What an interrupted run has written is kept, and its lines are not done again; a line that was
    cut short, or that the server could not help failing at, is.

    Raises:
        UsageError: the file is of something else, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        kept = [*_kept(path)] if path.exists() else []
        self.done: Collection[str | int] = {name for name, _, _ in kept}
        self.num_failed = sum(failed for _, failed, _ in kept)
        try:
            _replace(path, [text for _, _, text in kept])
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            raise _unwritable(path, error) from error

    def answer(self, line: Line, status: int, body: Mapping[str, Any]) -> None:
        """Write what the API said to a line."""
        response = {"status_code": status, "request_id": uuid4().hex, "body": body}
        self._write(line, status >= 400, response, None)

    def refuse(self, line: Line) -> None:
        """Write what is wrong with a line."""
        error = {"code": "invalid_line", "message": f"Line {line.number}: {line.wrong}"}
        self._write(line, True, None, error)

    def close(self) -> None:
        os.close(self._descriptor)

    def _write(
        self, line: Line, failed: bool, response: Mapping[str, Any] | None, error: object
    ) -> None:
        answer = {
            "id": f"batch_req_{uuid4().hex}",
            "custom_id": line.custom_id,
            "response": response,
            "error": error,
        }
        if line.custom_id is None:
            answer["line"] = line.number
        self.num_failed += failed
        data = json.dumps(answer).encode() + b"\n"  # ASCII: some readers end lines at U+2028
        try:
            while data:  # nothing waits in a buffer
                data = data[os.write(self._descriptor, data) :]
        except OSError as full:
            raise _unwritable(self._path, full) from full


def _kept(path: Path) -> Iterator[tuple[str | int, bool, str]]:
    """The name, whether it failed, and the text of each answer that stands."""
    with path.open(encoding="utf-8") as file:
        for text in file:
            try:
                answer = json.loads(text)
                response, name = answer["response"], answer["custom_id"]
                name = answer["line"] if name is None else name
                status = 400 if response is None else response["status_code"]
            except (ValueError, KeyError, TypeError):
                if text.endswith("\n"):
                    raise UsageError(
                        f"{path} exists and is not a file of answers; name another with -o."
                    ) from None
                continue  # it was being written when the run ended
            if status < _SERVERS_FAULT and text.endswith("\n"):
                yield name, status >= 400, text


def _replace(path: Path, texts: list[str]) -> None:
    """The old file stands until the new one is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".part")
    with fresh.open("w", encoding="utf-8") as file:
        file.writelines(texts)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path} cannot be written ({error.strerror}); make room or name another.")
