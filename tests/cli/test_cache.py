"""`vivace cache` against a folder of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vivace.backends.cpu.cache_folder import default_root
from vivace.cli.app import main

pytestmark = pytest.mark.tiny


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(["cache", *arguments])
    assert exit_.value.code == 0
    return capsys.readouterr().out


def test_what_is_kept_is_shown_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = default_root() / "a-model-1234"
    model.mkdir(parents=True)
    (model / "weight").write_bytes(bytes(3 << 20))
    (shown,) = json.loads(run(capsys, "--json"))["models"]
    assert (shown["name"], shown["nbytes"]) == ("a-model-1234", 3 << 20)
    assert "3.0 MiB" in run(capsys)
    assert json.loads(run(capsys, "--clear", "--json"))["models"] == []
    assert not model.exists()
