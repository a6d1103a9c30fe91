"""`vivace bench fit`, `simulate` and `replay`, one after the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from program import Vivace

REFERENCE = ("--backend", "reference")


def test_a_trace_on_paper_and_on_the_engine(
    vivace: Vivace, bare_model: Path, tmp_path: Path
) -> None:
    profile, trace = tmp_path / "engine.json", tmp_path / "trace.jsonl"
    row = {"prompt_len": 20, "max_tokens": 3}
    trace.write_text("\n".join(json.dumps({**row, "arrival_seconds": n / 50}) for n in range(4)))
    short = ("--num-iters", 1, "--context", 32, "--max-num-seqs", 4)
    fitted = vivace("bench", "fit", bare_model, "--profile", profile, *short, *REFERENCE, "--json")
    assert fitted.code == 0, fitted.err
    assert f"Wrote {profile}." in fitted.err
    errors = json.loads(fitted.out)
    assert 0 <= errors["p50_error"] <= errors["p95_error"]
    paper = vivace("bench", "simulate", trace, "--profile", profile, "--engines", 2, "--json")
    real = vivace("bench", "replay", trace, bare_model, *REFERENCE, "--json")
    assert (paper.code, real.code) == (0, 0), paper.err + real.err
    found = [json.loads(result.out) for result in (paper, real)]
    assert [one["completed"] for one in found] == [4, 4]
    assert [one["total_output_tokens"] for one in found] == [12, 12]
    assert found[0]["engines"] == 2


def test_a_table_and_a_picture(vivace: Vivace, bare_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    trace, picture = tmp_path / "trace.jsonl", tmp_path / "replay.png"
    trace.write_text('{"prompt_len": 20, "max_tokens": 3}\n')
    result = vivace("bench", "replay", trace, bare_model, *REFERENCE, "--plot", picture)
    assert result.code == 0, result.err
    assert "requests completed" in result.out
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.tiny
def test_wrong_files_are_explained(vivace: Vivace, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text("nothing\n")
    missing = vivace("bench", "simulate", trace, "--profile", tmp_path / "none.json")
    assert missing.code == 2
    assert missing.err.count("\n") == 1
    assert vivace("bench", "replay", trace).code == 2
