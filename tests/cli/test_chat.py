"""The terminal chat: turns, commands, and a Ctrl-C that ends an answer and not the program."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from program import Vivace

from vivace.core.request import Delta
from vivace.engine.llm import LLM

TEMPLATE = "[{{ messages[-1].content }}]"
FLAGS = ("--backend", "reference", "--temperature", "0", "--max-tokens", "3")


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The conversations that the engine was given."""
    seen: list[object] = []
    stream_chat = LLM.stream_chat

    def spy(self: LLM, messages: list[dict[str, str]], *arguments: object) -> object:
        seen.append([(message["role"], message["content"]) for message in messages])
        return stream_chat(self, messages, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(LLM, "stream_chat", spy)
    return seen


def say(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(line + "\n" for line in lines)))


def test_a_conversation_grows_turn_by_turn(
    vivace: Vivace, chat_model: Path, monkeypatch: pytest.MonkeyPatch, prompts: list[object]
) -> None:
    say(monkeypatch, "hi", "", "more", "/exit", "unheard")
    result = vivace("chat", chat_model, "--system", "Be kind.", *FLAGS)
    assert result.code == 0
    first = [("system", "Be kind."), ("user", "hi")]
    answers = result.out.split("\n")
    assert prompts == [first, [*first, ("assistant", answers[0]), ("user", "more")]]


def test_clear_starts_anew_and_the_end_of_input_leaves(
    vivace: Vivace, chat_model: Path, monkeypatch: pytest.MonkeyPatch, prompts: list[object]
) -> None:
    say(monkeypatch, "hi", "/clear", "you")
    assert vivace("chat", chat_model, *FLAGS).code == 0
    assert prompts == [[("user", "hi")], [("user", "you")]]


def test_a_line_that_does_not_fit_is_taken_back(
    vivace: Vivace, chat_model: Path, monkeypatch: pytest.MonkeyPatch, prompts: list[object]
) -> None:
    say(monkeypatch, "x" * 2000, "hi")
    result = vivace("chat", chat_model, *FLAGS)
    assert result.code == 0
    assert "/clear" in result.err
    assert prompts[-1] == [("user", "hi")]


def test_a_conversation_that_the_template_refuses_goes_on(
    vivace: Vivace, tmp_path: Path, chat_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(chat_model, tmp_path / "strict")
    refusal = "{% if 'no' in messages[-1].content %}{{ raise_exception('Not that.') }}{% endif %}"
    (folder / "chat_template.jinja").write_text(refusal + TEMPLATE)
    say(monkeypatch, "no", "hi")
    result = vivace("chat", folder, *FLAGS)
    assert result.code == 0
    assert "Not that." in result.err
    assert len(result.out) > 1


def test_a_line_that_is_not_utf8_is_explained_and_the_chat_goes_on(
    vivace: Vivace, chat_model: Path, monkeypatch: pytest.MonkeyPatch, prompts: list[object]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\nhi\n"), "utf-8"))
    result = vivace("chat", chat_model, *FLAGS)
    assert result.code == 0
    assert "/clear" in result.err
    assert prompts[-1] == [("user", "hi")]


def test_ctrl_c_before_the_first_token_stops_the_answer(
    vivace: Vivace, chat_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of a long prompt adds nothing: its delta is empty, and the interrupt is seen there."""
    steps = iter(range(100))

    def prefill(*_: object) -> Iterator[Delta]:
        for step in steps:
            if step == 3:
                signal.raise_signal(signal.SIGINT)
            yield Delta("0")

    monkeypatch.setattr(LLM, "stream_chat", prefill)
    say(monkeypatch, "hi")
    assert vivace("chat", chat_model, *FLAGS).code == 0
    assert next(steps) == 4


def test_a_model_without_a_template_is_explained(vivace: Vivace, text_model: Path) -> None:
    result = vivace("chat", text_model, *FLAGS)
    assert (result.code, result.out) == (2, "")
    assert "no chat template" in result.err


def test_ctrl_c_ends_the_answer_and_not_the_program(chat_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(chat_model, tmp_path / "long")
    config = json.loads((folder / "config.json").read_text())
    config["max_position_embeddings"] = 20000
    (folder / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-u", "-m", "vivace", "chat", str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    flags = ["--backend", "reference", "--temperature", "0"]
    with subprocess.Popen([*command, *flags], **pipes) as process:  # type: ignore[call-overload]
        for _ in range(2):
            process.stdin.write(b"hi\n")
            process.stdin.flush()
            assert process.stdout.read(1)
            process.send_signal(signal.SIGINT)
            assert len(process.stdout.readline()) < 10000
        process.stdin.write(b"/exit\n")
        process.stdin.flush()
        assert process.wait(timeout=20) == 0
