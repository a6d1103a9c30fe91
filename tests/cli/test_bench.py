"""`vivace bench startup`, and the pictures of the commands that run a model themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from program import Vivace

REFERENCE = ("--backend", "reference")
SHORT = ("--input-len", 4, "--num-iters", 2)


def test_startup(vivace: Vivace, bare_model: Path) -> None:
    result = vivace("bench", "startup", bare_model, *SHORT, *REFERENCE, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["num_iters"] == len(found["startup_times"]) == 2
    assert found["total_startup_time"] == min(found["startup_times"])
    parts = (found[name] for name in ("process_time", "load_time", "first_token_time"))
    assert sum(parts) == pytest.approx(found["total_startup_time"])


def test_startup_of_a_missing_model_is_explained(vivace: Vivace, tmp_path: Path) -> None:
    result = vivace("bench", "startup", tmp_path / "nowhere", *SHORT)
    assert (result.code, result.out) == (1, "")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("command", ["latency", "throughput", "startup"])
def test_pictures(vivace: Vivace, bare_model: Path, tmp_path: Path, command: str) -> None:
    pytest.importorskip("matplotlib")
    lengths = {
        "latency": (*SHORT, "--output-len", 3),
        "throughput": ("--input-len", 4, "--output-len", 3, "--num-prompts", 3),
        "startup": SHORT,
    }
    file = tmp_path / "picture.png"
    result = vivace("bench", command, bare_model, *lengths[command], *REFERENCE, "--plot", file)
    assert result.code == 0, result.err
    assert file.read_bytes().startswith(b"\x89PNG")
    assert "total" in result.out or "latency" in result.out
