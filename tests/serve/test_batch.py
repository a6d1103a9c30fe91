"""`run-batch`: every line has its answer, errors by line, and an interrupted run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serve.commanded import environment
from tests.serve.scripted import wait_until
from vivace.core.errors import UsageError
from vivace.serve.batch_lines import Answers, Line, read_lines

CHAT, COMPLETE = "/v1/chat/completions", "/v1/completions"


def line(custom_id: str, url: str = COMPLETE, **body: Any) -> str:
    asked = {"custom_id": custom_id, "method": "POST", "url": url, "body": body}
    return json.dumps(asked)


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def answers(path: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(text) for text in path.read_text().splitlines()]
    assert len({one["id"] for one in found}) == len(found)
    return {str(one["custom_id"] or one["line"]): one for one in found}


def started(model: Path, source: Path, target: Path, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vivace", "run-batch", "-i", str(source), "-o", str(target)]
    command += [str(model), "--backend", "reference", "--kv-memory", "4MiB", *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment(), **pipes)  # type: ignore[call-overload]


def ran(model: Path, source: Path, target: Path) -> dict[str, Any]:
    with started(model, source, target, "--json") as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    summary = json.loads(out)
    assert isinstance(summary, dict)
    return summary


def test_a_batch_is_answered_line_by_line(model: Path, tmp_path: Path) -> None:
    greedy = {"max_tokens": 4, "temperature": 0}
    source = write(
        tmp_path / "in.jsonl",
        [
            line("text", prompt="ab", **greedy),
            line("chat", CHAT, messages=[{"role": "user", "content": "hi"}], **greedy),
            line("vectors", "/v1/embeddings", input=["ab", "cd"]),
            line("other", model="gpt-9", prompt="ab"),
            line("wrong", prompt="ab", temperature=-1),
            line("streams", prompt="ab", stream=True),
            "{not json",
            "",
            line("elsewhere", "/health"),
            line("text", prompt="again"),
        ],
    )
    target = tmp_path / "out.jsonl"
    summary = ran(model, source, target)
    assert summary == {"lines": 9, "kept": 0, "failed": 6}
    found = answers(target)
    statuses = {
        name: one["response"] and one["response"]["status_code"] for name, one in found.items()
    }
    assert statuses == {
        "text": 200,
        "chat": 200,
        "vectors": 200,
        "other": 404,
        "wrong": 400,
        "streams": None,
        "7": None,
        "elsewhere": None,
        "10": None,
    }
    assert found["text"]["response"]["body"]["usage"]["completion_tokens"] <= 4
    assert found["chat"]["response"]["body"]["object"] == "chat.completion"
    assert len(found["vectors"]["response"]["body"]["data"]) == 2
    assert found["wrong"]["response"]["body"]["error"]["param"] == "temperature"
    assert "does not stream" in found["streams"]["error"]["message"]
    assert found["7"]["error"]["message"].startswith("Line 7: It is not JSON")
    assert "comes twice" in found["10"]["error"]["message"]
    text = target.read_text()
    assert ran(model, source, target) == {"lines": 9, "kept": 9, "failed": 6}
    assert target.read_text() == text  # there was nothing left to do


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell's background jobs ignore interrupts, and so would what they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_batch_loses_nothing_and_goes_on(model: Path, tmp_path: Path) -> None:
    asked = [line(f"r{n}", prompt=f"{n}", max_tokens=60, ignore_eos=True) for n in range(16)]
    source, target = write(tmp_path / "in.jsonl", asked), tmp_path / "out.jsonl"
    with started(model, source, target, "--max-num-seqs", "1") as process:
        wait_until(lambda: target.exists() and target.read_text().count("\n") >= 3, 60)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the same command goes on" in err
    before = answers(target)
    assert 3 <= len(before) < 16
    with target.open("a") as file:
        file.write('{"id": "batch_req_cut sho')  # as a crash while writing leaves it
    assert ran(model, source, target)["kept"] == len(before)
    after = answers(target)
    assert after.keys() == {f"r{n}" for n in range(16)}
    assert {name: after[name] for name in before} == before
    assert all(one["response"]["status_code"] == 200 for one in after.values())


@pytest.mark.tiny
def test_what_the_server_failed_at_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    first = Answers(path)
    for name, status in (("a", 200), ("b", 400), ("c", 503)):
        first.answer(Line(1, name), status, {})
    first.refuse(Line(4, None, wrong="It is broken."))
    first.close()
    second = Answers(path)
    second.close()
    assert second.done == {"a", "b", 4}
    assert second.num_failed == 2
    assert path.read_text().count("\n") == 3


@pytest.mark.tiny
@pytest.mark.parametrize("text", ["a poem\n", '{"id": 1}\n', "[]\n"])
def test_another_file_is_not_overwritten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError, match="not a file of answers"):
        Answers(path)
    assert path.read_text() == text


@pytest.mark.tiny
def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    one = Answers(tmp_path / "out.jsonl")
    one.close()
    one._descriptor = os.open(full, os.O_WRONLY)
    with pytest.raises(UsageError, match="No space left"):
        one.answer(Line(1, "a"), 200, {})
    one.close()


@pytest.mark.tiny
def test_lines_know_their_numbers(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", ["", line("a", prompt="x"), "", "nope"])
    assert [(one.number, one.custom_id) for one in read_lines(source)] == [(2, "a"), (4, None)]
    with pytest.raises(UsageError, match="cannot be read"):
        read_lines(tmp_path / "none")
