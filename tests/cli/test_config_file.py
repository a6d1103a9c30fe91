"""Flags from a file: they mean what they mean on a command line, which wins over them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from vivace.cli.flags import JsonFlag, flags
from vivace.core.config import EngineConfig
from vivace.core.errors import UsageError

pytestmark = pytest.mark.tiny


@dataclass(frozen=True)
class Seen:
    config: EngineConfig
    prompt: str
    temperature: float | None
    json: bool


def run(folder: Path, text: str | bytes, *arguments: str) -> Seen:
    path = folder / "flags.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    app, seen = typer.Typer(), []

    @app.command()
    @flags
    def command(
        config: EngineConfig,
        prompt: Annotated[str, typer.Option("--prompt")],
        temperature: float | None = None,
        json: JsonFlag = False,
    ) -> None:
        seen.append(Seen(config, prompt, temperature, json))

    app(["--config", str(path), *arguments], standalone_mode=False)
    (only,) = seen
    return only


EVERYTHING = """
# a comment
model: some/folder
kv-memory: 2GiB
max_num_seqs: 7          # underscores do too
tenant-weights: a=2,b=0.5
prefix-caching: false
no-packed-cache: true
prompt: "yes: no"
temperature: 1e-1
json: true
max-model-len:            # nothing is left out
"""


def test_a_file_sets_what_flags_set(tmp_path: Path) -> None:
    seen = run(tmp_path, EVERYTHING)
    assert seen.config == EngineConfig(
        "some/folder",
        kv_memory_bytes=2 << 30,
        max_num_seqs=7,
        tenant_weights="a=2,b=0.5",
        enable_prefix_caching=False,
        packed_cache=False,
    )
    assert (seen.prompt, seen.temperature, seen.json) == ("yes: no", 0.1, True)


def test_the_command_line_wins(tmp_path: Path) -> None:
    line = ("other", "--max-num-seqs", "9", "--prefix-caching", "--prompt", "x")
    seen = run(tmp_path, EVERYTHING, *line)
    assert seen.config.model == "other"
    assert seen.config.max_num_seqs == 9
    assert seen.config.enable_prefix_caching
    assert seen.prompt == "x"
    assert seen.config.kv_memory_bytes == 2 << 30  # of the file still


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, "# nothing\n", "--prompt", "x").config == EngineConfig()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot: 8000", "prot is no flag of this command"),
        ("config: other.yaml", "config is no flag of this command"),
        ("threads: 1\nthreads: 2", "has threads twice"),
        ("max-num-seqs: 1\nmax_num_seqs: 2", "sets max_num_seqs twice"),
        ("prefix-caching: true\nno-prefix-caching: true", "sets no-prefix-caching twice"),
        ("threads: [1, 2]", "line 1: give a flag's name and a single value"),
        ("- threads", "must be lines such as"),
        ("threads: {", "is not YAML"),
        (b"model: \xff", "is not YAML"),
        ("prefix-caching: maybe", "give true or false, not maybe"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        run(tmp_path, text, "--prompt", "x")
    assert said in str(refused.value)


def test_a_wrong_value_is_refused_as_on_the_command_line(tmp_path: Path) -> None:
    app, path = typer.Typer(rich_markup_mode=None), tmp_path / "flags.yaml"
    path.write_text("threads: 0")

    @app.command()
    @flags
    def command(config: EngineConfig) -> None:
        raise AssertionError("it was accepted")

    result = CliRunner().invoke(app, ["--config", str(path)])
    assert result.exit_code == 2
    assert "--threads" in result.output


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        run(tmp_path, "", "--config", str(tmp_path / "none.yaml"))
