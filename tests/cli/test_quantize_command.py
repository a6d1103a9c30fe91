"""`vivace quantize` on tiny models, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from program import Vivace

REFERENCE = ("--backend", "reference")
FEW = ("--samples", 2, "--sample-len", 32, "--eval-windows", 2)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("The quick brown fox jumps over the lazy dog. " * 20)
    return path


def test_a_smaller_folder_with_its_evidence(
    vivace: Vivace, text_model: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    texts = ("--calibration", text, "--eval-text", text)
    result = vivace(
        "quantize", text_model, out, "--scheme", "int4-g32", *texts, *FEW, *REFERENCE, "--json"
    )
    assert result.code == 0, result.err
    printed = json.loads(result.out)
    assert printed == {"folder": str(out), **json.loads((out / "vivace.json").read_text())}
    assert printed["recipe"]["calibration"]["tokens"] == 64
    found = printed["evidence"]
    assert found["size"]["bits_per_quantized_weight"] == pytest.approx(4 + 16 / 32, abs=0.1)
    assert found["size"]["bytes"] < found["size"]["base_bytes"]
    assert 0 < found["figures"]["kl_mean"]["value"] < 1
    answer = vivace("generate", out, "--prompt", "ab", "--max-tokens", 2, *REFERENCE)
    assert answer.code == 0, answer.err


def test_without_evidence_or_text(vivace: Vivace, bare_model: Path, tmp_path: Path) -> None:
    flags = ("--scheme", "int8", *REFERENCE)
    refused = vivace("quantize", bare_model, tmp_path / "a", "--method", "gptq", *flags)
    assert refused.code == 2
    assert "has no tokenizer" in refused.err
    flags = (*flags, "--method", "rtn", "--eval-windows", 0)
    result = vivace("quantize", bare_model, tmp_path / "b", *flags)
    assert result.code == 0, result.err
    assert "bits per weight" in result.out


def test_bits_make_a_mix(vivace: Vivace, text_model: Path, text: Path, tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    flags = ("--bits", 5.5, "--mix", "int8,int4-g64", "--method", "rtn", "--calibration", text)
    result = vivace("quantize", text_model, tmp_path / "a", *flags, *FEW, *REFERENCE, "--json")
    assert result.code == 0, result.err
    printed = json.loads(result.out)
    schemes = {item.split("=")[1] for item in printed["recipe"]["scheme"].split(",")}
    assert schemes == {"int8", "int4-g64"}
    assert printed["evidence"]["size"]["bits_per_quantized_weight"] < 5.6
    small = ("--bits", 3, *flags[2:])
    refused = vivace("quantize", text_model, tmp_path / "b", *small, *FEW, *REFERENCE)
    assert (refused.code, "give more bits" in refused.err) == (2, True)


def test_wrong_usage(vivace: Vivace, bare_model: Path, tmp_path: Path) -> None:
    result = vivace("quantize", bare_model, tmp_path / "a", "--method", "magic", *REFERENCE)
    assert (result.code, "no method 'magic'" in result.err) == (2, True)
