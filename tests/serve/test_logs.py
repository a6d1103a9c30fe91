"""Log lines: their fields, and that no reader, disk or pipe can hold serving up."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serve.commanded import command, commanded, environment
from tests.serve.process import url_of
from tests.serve.scripted import ScriptedEngine, scripted_app, serving
from vivace.serve.logs import LineWriter, logging_as
from vivace.serve.options import ServeOptions


def ask(url: str, **fields: object) -> httpx.Response:
    body = {"prompt": "ab", "max_tokens": 3, "ignore_eos": True, **fields}
    return httpx.post(f"{url}/v1/completions", json=body, timeout=60)


def lines_of(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines()]


def test_json_lines_tell_each_request_and_each_refusal(model: Path, tmp_path: Path) -> None:
    with commanded(model, tmp_path / "log", "--log-format", "json") as server:
        named = {"x-request-id": "mine"}
        body = {"prompt": [20] * 40, "max_tokens": 3, "n": 2, "ignore_eos": True, "user": "alice"}
        httpx.post(f"{server.url}/v1/completions", json=body, headers=named, timeout=60)
        assert ask(server.url, temperature=-1).status_code == 400
        assert httpx.get(f"{server.url}/health").status_code == 200
        found = lines_of(server.stop())
    assert any("loaded in" in line["message"] for line in found)
    finished = [line for line in found if line["message"] == "request finished"]
    assert len(finished) == 2
    for line in finished:
        assert line["request_id"].startswith("cmpl-mine")
        assert (line["level"], line["finish_reason"], line["tenant"]) == ("info", "length", "alice")
        assert (line["prompt_tokens"], line["completion_tokens"]) == (40, 3)
        assert 0 <= line["queue_seconds"] <= line["first_token_seconds"] <= line["total_seconds"]
    (refused,) = (line for line in found if line["message"] == "call refused")
    assert (refused["status"], refused["path"]) == (400, "/v1/completions")
    assert all(line["time"].endswith("Z") for line in found)


def test_a_reader_that_stops_reading_or_leaves_holds_nobody_up(model: Path) -> None:
    """The pipe is filled first, so that the very next line blocks whoever writes it."""
    reading, writing = os.pipe()
    pipes = {"stdout": subprocess.PIPE, "stderr": writing, "text": True}
    process = subprocess.Popen(command(model), env=environment(), **pipes)  # type: ignore[call-overload]
    with process:
        url = url_of(process)
        os.set_blocking(writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writing, b"x" * 4096)
        os.set_blocking(writing, True)
        os.close(writing)
        for _ in range(20):
            assert ask(url).status_code == 200
        os.close(reading)  # a broken pipe from now on
        assert ask(url).status_code == 200
        process.terminate()
        assert process.wait(30) == 0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("wanted", [True, False])
def test_the_access_log_can_be_left_out(pipe: tuple[int, int], wanted: bool) -> None:
    reading, writing = pipe
    options = ServeOptions(access_log=wanted)
    with logging_as(options, writing), serving(scripted_app(ScriptedEngine(), options)) as url:
        assert ask(url).status_code == 200
        assert ask(url, n=0).status_code == 400
        logging.getLogger("vivace").info("last")
    log = os.read(reading, 1 << 16).decode()
    assert log.count("request finished") == log.count("call refused") == wanted
    assert "last" in log


@pytest.mark.tiny
def test_a_level_leaves_out_what_is_less(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    with logging_as(ServeOptions(log_level="warning"), writing):
        logging.getLogger("vivace").info("less")
        logging.getLogger("vivace").warning("enough")
    (line,) = os.read(reading, 4096).decode().splitlines()
    assert line.endswith("WARNING enough")


@pytest.mark.tiny
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    writer = LineWriter(full)
    writer.put("one")
    writer.put("two")
    writer.close()
    os.close(full)
    assert writer.dropped == 2


@pytest.mark.tiny
def test_text_lines_have_their_fields_behind_them(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    with logging_as(ServeOptions(), writing):
        fields = {"id": "a b", "count": 3, "none": None, "id2": "x\ny"}
        logging.getLogger("vivace").info("done", extra={"fields": fields})
        logging.getLogger("elsewhere").warning("too: %s", "much")
    first, second = os.read(reading, 4096).decode().splitlines()
    assert first.split(" ", 1)[1] == 'INFO done id="a b" count=3 id2="x\\ny"'
    assert second.split(" ", 1)[1] == "WARNING too: much"


@pytest.mark.tiny
def test_an_exception_stays_one_line_in_json(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    with logging_as(ServeOptions(log_format="json"), writing):
        try:
            raise ValueError("why")
        except ValueError:
            logging.getLogger("vivace").exception("It failed.")
    (line,) = lines_of(os.read(reading, 1 << 16).decode())
    assert (line["level"], line["message"]) == ("error", "It failed.")
    assert "ValueError: why" in line["exception"]


@pytest.mark.tiny
def test_lines_that_nobody_reads_are_counted_not_kept() -> None:
    _, writing = os.pipe()  # never closed: the thread goes on writing, whoever has the number then
    writer = LineWriter(writing)
    for _ in range(12_000):
        writer.put("x" * 100)  # the pipe holds a few hundred of these
    assert writer.dropped > 0
    while not writer._lines.full():  # the thread may have taken one more before it was held up
        writer.put("x")
    writer.close()  # does not hang either


@pytest.mark.tiny
def test_lines_are_written_whole_whatever_is_in_them(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = LineWriter(writing)
    writer.put("\ud800" + "x" * 20_000)
    writer.put("end")
    written = b""
    while not written.endswith(b"end\n"):
        written += os.read(reading, 1 << 16)
    writer.close()
    assert written == b"\\ud800" + b"x" * 20_000 + b"\nend\n"
