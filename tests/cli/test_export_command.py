"""`vivace export` on tiny models, end to end."""

from __future__ import annotations

import json
from pathlib import Path

from program import Vivace

from vivace.formats.gguf.checkpoint import read_metadata

REFERENCE = ("--backend", "reference")
FEW = ("--samples", 2, "--sample-len", 32, "--eval-windows", 2)


def test_a_file_with_its_evidence(vivace: Vivace, chat_model: Path, tmp_path: Path) -> None:
    out, text = tmp_path / "small.gguf", tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 20)
    texts = ("--calibration", text, "--eval-text", text)
    flags = ("--type", "q4_k_m", *texts, *FEW, *REFERENCE)
    result = vivace("export", chat_model, out, *flags, "--json")
    assert result.code == 0, result.err
    printed = json.loads(result.out)
    metadata = read_metadata(out)
    assert printed["file"] == str(out)
    assert printed["recipe"] == json.loads(metadata["vivace.recipe"])
    assert printed["evidence"] == json.loads(metadata["vivace.evidence"])
    assert printed["recipe"]["scheme"] == "Q4_K_M"
    assert 0 < printed["evidence"]["figures"]["kl_mean"]["value"] < 1
    assert "[assistant]" in metadata["tokenizer.chat_template"]
    answer = vivace("generate", out, "--prompt", "ab", "--max-tokens", 2, *REFERENCE)
    assert answer.code == 0, answer.err


def test_without_text(vivace: Vivace, bare_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.gguf"
    refused = vivace("export", bare_model, out, *REFERENCE)
    assert (refused.code, "has no tokenizer" in refused.err) == (2, True)
    flags = ("--method", "search", "--eval-windows", 0, *REFERENCE)
    result = vivace("export", bare_model, out, *flags)
    assert result.code == 0, result.err
    assert "bits per weight" in result.out
    again = vivace("export", bare_model, out, *flags)
    assert (again.code, "is there already" in again.err) == (2, True)


def test_wrong_usage(vivace: Vivace, bare_model: Path, tmp_path: Path) -> None:
    result = vivace("export", bare_model, tmp_path / "folder", *REFERENCE)
    assert (result.code, "must end with .gguf" in result.err) == (2, True)
    result = vivace("export", bare_model, tmp_path / "x.gguf", "--type", "q3", *REFERENCE)
    assert (result.code, "no type 'q3'" in result.err) == (2, True)
