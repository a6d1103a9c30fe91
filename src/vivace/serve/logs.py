"""Log lines on standard error, as text or JSON. Writing them never holds up or breaks serving: a
thread of its own writes, and what it cannot write in time, or at all, is counted and dropped."""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from vivace.serve.options import LogFormat, ServeOptions

LOGGER = logging.getLogger("vivace")
STANDARD_ERROR = 2
_MAX_WAITING = 10_000  # lines
_LAST_SECONDS = 1.0  # to write what waits when the server ends


def log(level: int, message: str, fields: Mapping[str, Any]) -> None:
    """A line with fields, which JSON keeps apart."""
    LOGGER.log(level, message, extra={"fields": fields})


@contextmanager
def logging_as(options: ServeOptions, descriptor: int = STANDARD_ERROR) -> Iterator[LineWriter]:
    """Everything that is logged in this process goes there, until the end."""
    writer = LineWriter(descriptor)
    handler = _Handler(writer, _FORMATTERS[options.log_format]())
    root = logging.getLogger()
    before = LOGGER.level
    root.addHandler(handler)
    LOGGER.setLevel(options.log_level.upper())
    try:
        yield writer
    finally:
        root.removeHandler(handler)
        LOGGER.setLevel(before)
        writer.close()


class LineWriter:
    """Writes lines to a file descriptor, in a thread.

    Attributes:
        dropped: lines that could not be written, or not in time.
    """

    def __init__(self, descriptor: int) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._lines: queue.Queue[str | None] = queue.Queue(_MAX_WAITING)
        self._thread = threading.Thread(target=self._run, daemon=True, name="log")
        self._thread.start()

    def put(self, line: str) -> None:
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, but wait no longer than a second: a reader may have stopped reading."""
        try:
            self._lines.put(None, timeout=_LAST_SECONDS)
        except queue.Full:
            return
        self._thread.join(_LAST_SECONDS)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            self._write(line.encode("utf-8", "backslashreplace") + b"\n")

    def _write(self, data: bytes) -> None:
        """Past Python's buffers: a thread that hangs in one hangs the end of the program too."""
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:  # a full disk, a reader that is gone
            self.dropped += 1


class _Handler(logging.Handler):
    def __init__(self, writer: LineWriter, formatter: logging.Formatter) -> None:
        super().__init__()
        self._writer = writer
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        self._writer.put(self.format(record))


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {}).items()
        told = "".join(f" {name}={_shown(value)}" for name, value in fields if value is not None)
        line = f"{_utc(record.created)} {record.levelname} {record.getMessage()}{told}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


_FORMATTERS: dict[LogFormat, type[logging.Formatter]] = {
    "json": _JsonFormatter,
    "text": _TextFormatter,
}


def _utc(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"


def _shown(value: Any) -> str:
    """One word, whatever a client wrote."""
    text = str(value)
    return text if text.isprintable() and text and " " not in text else json.dumps(text)
