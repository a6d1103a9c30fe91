"""The program as a whole: help, version, exit codes, and what it never imports."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from program import Vivace

BENCHES = ("bench latency", "bench throughput", "bench startup")
COMMANDS = ("generate", "chat", "serve", "inspect", *BENCHES)


@pytest.mark.tiny
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(vivace: Vivace, command: str) -> None:
    result = vivace(*command.split(), "--help")
    assert result.code == 0
    for flag in ("--backend", "--dtype", "--kv-memory", "--debug"):
        assert flag in result.out
    for flag in ("--max-model-len", "--threads", "--seed"):
        assert (flag in result.out) == (command != "inspect")


@pytest.mark.tiny
def test_the_help_lists_the_commands(vivace: Vivace) -> None:
    result = vivace("--help")
    assert result.code == 0
    assert {command.split()[0] for command in COMMANDS} <= set(result.out.split())


@pytest.mark.tiny
@pytest.mark.parametrize("line", ["nonsense", "generate", "generate --prompt", "serve --port x"])
def test_wrong_usage_exits_with_2(vivace: Vivace, line: str) -> None:
    result = vivace(*line.split())
    assert (result.code, result.out) == (2, "")
    assert "Error:" in result.err


@pytest.mark.tiny
def test_an_invalid_value_is_one_sentence(vivace: Vivace) -> None:
    result = vivace("generate", "--prompt", "x", "--temperature", "-1")
    assert (result.code, result.out) == (2, "")
    assert result.err == "vivace: temperature must be from 0 to 100, got -1.0.\n"


def test_a_missing_model_is_one_sentence(vivace: Vivace, tmp_path: Path) -> None:
    result = vivace("inspect", tmp_path / "nowhere")
    assert (result.code, result.out) == (1, "")
    assert re.fullmatch(r"vivace: [^\n]+\.\n", result.err)


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vivace", "inspect", str(tmp_path / "nowhere")]
    plain = subprocess.run(command, capture_output=True, text=True, check=False)
    debug = subprocess.run([*command, "--debug"], capture_output=True, text=True, check=False)
    assert (plain.returncode, debug.returncode) == (1, 1)
    assert "Traceback" not in plain.stderr
    assert "Traceback" in debug.stderr


@pytest.mark.tiny
def test_an_unexpected_error_is_one_line(vivace: Vivace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("three words here")

    monkeypatch.setattr("vivace.formats.hub.resolve_model", fail)
    result = vivace("inspect")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("vivace: ZeroDivisionError: three words here (")
    assert result.err.count("\n") == 1


@pytest.mark.tiny
def test_version() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "vivace", "--version"], capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"vivace \d+\.\d+\.\S+\n", process.stdout)


@pytest.mark.tiny
def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom vivace.cli import main\n"
        "try:\n    main(['--help'])\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    heavy = {"numpy", "rich", "tokenizers", "fastapi", "huggingface_hub", "torch", "transformers"}
    assert process.returncode == 0
    assert not heavy & set(process.stderr.split())
