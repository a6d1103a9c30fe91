"""Every command line and link in the documents works: the cheap commands run, the others parse."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.tiny import write_tiny_llama
from tests.formats.gguf_files import LLAMA, llama_tensors, write_gguf
from tests.serve.process import url_of
from vivace.bench.simulate.profile import Profile, write_profile
from vivace.cache.blocks import KVGroup
from vivace.scheduler.config import PolicyConfig, SchedulerConfig
from vivace.scheduler.step_time import GUESS

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
BUNDLED = ROOT / "src" / "vivace" / "assets" / "vivace-mini" / "config.json"

COMMAND = re.compile(r"^(?:\S*/)?(vivace|make|python) .+")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
RUNS_FOREVER = {"serve", "chat"}
SERVER = "http://127.0.0.1:8000"  # where the documents take one to be


def commands(document: Path) -> list[str]:
    """Command lines in code, fenced or inline."""
    text = document.read_text()
    fenced = [
        line for kind, body in FENCE.findall(text) if kind == "sh" for line in body.split("\n")
    ]
    inline = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    return [line.strip() for line in fenced + inline if COMMAND.match(line.strip())]


COMMANDS = sorted({line for document in DOCUMENTS for line in commands(document)})


def words(kind: str) -> list[list[str]]:
    split = (shlex.split(line, comments=True) for line in COMMANDS)
    return [line for line in split if Path(line[0]).name == kind]


def placeholders_filled(arguments: list[str]) -> list[str]:
    """`[MODEL]` and the like left out, `N` and `TEXT` given."""
    filled = {"N": "1", "TEXT": "x", "MODEL": "folder"}
    return [filled.get(word, word) for word in arguments if not word.startswith("[")]


@pytest.mark.tiny
def test_the_documents_show_commands() -> None:
    assert len(words("vivace")) >= 7
    assert len(words("make")) >= 4


@pytest.mark.tiny
@pytest.mark.parametrize("line", words("vivace"), ids=" ".join)
def test_vivace_command_lines_parse(line: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reaches its command with its flags understood."""
    from vivace.cli import main

    class ReachedError(Exception):
        pass

    def reached(*_: object, **__: object) -> None:
        raise ReachedError

    for name in (
        "vivace.formats.hub.resolve_model",
        "vivace.serve.server.run",
        "vivace.serve.batch.run_batch",
        "vivace.cli.config_file.read_config",
        "vivace.bench.serving.measure_serving",
        "vivace.bench.startup.measure_startup",
        "vivace.bench.simulate.profile.read_profile",
        "vivace.bench.simulate.trace.read_trace",
        "vivace.backends.cpu.cache_folder.CacheFolder",
    ):
        monkeypatch.setattr(name, reached)
    monkeypatch.setattr("vivace.engine.build.resolve_model", reached)
    arguments = placeholders_filled(line[1:])
    if "--help" in arguments or "--version" in arguments:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        return
    with pytest.raises(ReachedError):
        main([*arguments, "--debug"])


@pytest.mark.tiny
@pytest.mark.parametrize("line", words("make"), ids=" ".join)
def test_make_targets_exist(line: list[str]) -> None:
    command = ["make", "--dry-run", *placeholders_filled(line[1:])]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


@pytest.mark.tiny
@pytest.mark.parametrize("line", words("python"), ids=" ".join)
def test_programs_explain_themselves(line: list[str]) -> None:
    program = [sys.executable, *(line[1:3] if line[1] == "-m" else line[1:2]), "--help"]
    process = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    if re.search("No module named '(torch|transformers)'", process.stderr):
        pytest.skip("PyTorch or Transformers is not installed")
    assert process.returncode == 0, process.stderr
    assert "usage:" in process.stdout


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server of the bundled model."""
    command = [sys.executable, "-m", "vivace", "serve", "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, env=environment(), **pipes) as process:  # type: ignore[call-overload]
        try:
            yield url_of(process)
        finally:
            process.terminate()


def environment() -> dict[str, str]:
    """Finds this checkout's package from any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def fenced(kind: str) -> list[str]:
    """The files of that kind that the documents show, in their order."""
    return [
        body
        for document in DOCUMENTS
        for found, body in FENCE.findall(document.read_text())
        if found == kind
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds the files that the documents describe, a profile and two models; commands may write
    into it."""
    prompts, trace, requests = fenced("jsonl")
    (flags,) = fenced("yaml")
    (tmp_path / "prompts.jsonl").write_text(prompts)
    (tmp_path / "trace.jsonl").write_text(trace)
    (tmp_path / "requests.jsonl").write_text(requests)
    (tmp_path / "flags.yaml").write_text(flags)
    write_tiny_llama(tmp_path / "my-model")
    write_gguf(tmp_path / "model.gguf", LLAMA, llama_tensors())
    groups, limits = (KVGroup(400),), SchedulerConfig()
    write_profile(
        tmp_path / "engine.json",
        Profile("vivace-mini", 1000, 2048, 16, groups, True, limits, PolicyConfig(), GUESS),
    )
    return tmp_path


@pytest.mark.skipif(not BUNDLED.exists(), reason="the bundled model is not in this checkout")
@pytest.mark.parametrize(
    "line", [line for line in words("vivace") if line[1] not in RUNS_FOREVER], ids=" ".join
)
def test_vivace_command_lines_run(
    line: list[str], folder: Path, request: pytest.FixtureRequest
) -> None:
    if line[1:3] == ["bench", "serve"] and "--help" not in line:
        url = request.getfixturevalue("url")
        line = [*(word for word in line if word not in ("--base-url", SERVER)), "--base-url", url]
    process = subprocess.run(
        [sys.executable, "-m", *line],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout


@pytest.mark.skipif(not BUNDLED.exists(), reason="the bundled model is not in this checkout")
def test_the_python_of_the_readme_runs() -> None:
    text = (ROOT / "README.md").read_text()
    (program,) = (body for kind, body in FENCE.findall(text) if kind == "python")
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True)


@pytest.mark.tiny
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_paths_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    written = {"proofs/foundation.json"}  # by `make prove-foundation`
    missing = [
        link for link in links if link not in written and not (document.parent / link).exists()
    ]
    paths = re.findall(r"`((?:[a-z_]+/)+[a-z0-9_.*]+\.(?:py|hpp|cpp|md))(?:: \w+)?`", text)
    roots = (ROOT, ROOT / "src" / "vivace", ROOT / "src" / "vivace" / "models")
    missing += [path for path in paths if not any(list(root.glob(path)) for root in roots)]
    assert missing == []
