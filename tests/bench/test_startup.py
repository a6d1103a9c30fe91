"""Starting processes for real, and what is reported of them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vivace.bench import startup
from vivace.bench.plans import StartupPlan
from vivace.bench.random_model import PRESETS, write_random_model
from vivace.bench.startup import PARTS, empty_cache, measure_startup, start_once
from vivace.core.config import EngineConfig
from vivace.core.errors import VivaceError


def test_the_parts_of_a_start_add_up(tmp_path: Path) -> None:
    folder = write_random_model(tmp_path, PRESETS["tiny"])
    config = EngineConfig(str(folder), backend="reference")
    reports: list[tuple[int, int]] = []
    result = measure_startup(
        config, StartupPlan(8, 2), lambda done, total: reports.append((done, total))
    )
    assert reports == [(1, 3), (2, 3), (3, 3)]
    assert (result["model"], result["backend"]) == (str(folder), "reference")
    assert len(result["startup_times"]) == 2
    for start in (result, result["first_start"]):
        assert all(start[part] > 0 for part in PARTS)
        assert sum(start[part] for part in PARTS) == pytest.approx(start["total_startup_time"])


def test_the_first_start_finds_nothing_packed_and_leaves_it_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("vivace.backends.cpu._native")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "usual"))
    large = replace(PRESETS["tiny"], vocab_size=8192)  # small weights are not worth a file
    folder = write_random_model(tmp_path / "model", large)
    with empty_cache() as environment:
        caches = Path(environment["XDG_CACHE_HOME"])
        assert list(caches.iterdir()) == []
        start_once(EngineConfig(str(folder), backend="cpu"), 8, environment)
        assert [path for path in caches.rglob("*") if path.is_file()]
        assert environment["HF_HOME"] == str(tmp_path / "usual" / "huggingface")
    assert list((tmp_path / "usual").iterdir()) == []


def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(VivaceError, match=str(tmp_path / "nowhere")):
        measure_startup(EngineConfig(str(tmp_path / "nowhere")), StartupPlan(8, 1))


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("import os, sys; sys.stderr.write('x' * 10**6); os._exit(3)", "x" * 100),
        ("import os; os._exit(3)", "exit code 3 and gave no reason"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "signal 9"),
    ],
    ids=("talkative", "silent", "killed"),
)
def test_whatever_a_failing_process_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, error: str
) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!{sys.executable}\n{program}\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    with pytest.raises(VivaceError, match=error):
        start_once(EngineConfig(), 8, {})


@pytest.mark.tiny
def test_the_median_of_the_later_starts_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    totals = iter([9.0, 1.0, 3.0, 2.0])

    def start_once(*_: Any) -> dict[str, Any]:
        total = next(totals)
        return {"total_startup_time": total, **dict.fromkeys(PARTS, total / 3)}

    monkeypatch.setattr(startup, "start_once", start_once)
    result = measure_startup(EngineConfig(), StartupPlan(8, 3))
    assert result["first_start"]["total_startup_time"] == 9.0
    assert (result["total_startup_time"], result["load_time"]) == (2.0, 2.0 / 3)
    assert result["startup_times"] == [1.0, 3.0, 2.0]
