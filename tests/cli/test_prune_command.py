"""`vivace prune` and `vivace distill` on tiny models, end to end."""

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
    path.write_text("The quick brown fox jumps over the lazy dog. " * 40)
    return path


def test_weights_at_zero_with_their_evidence(
    vivace: Vivace, text_model: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sparse"
    texts = ("--calibration", text, "--eval-text", text)
    flags = ("--method", "wanda", "--pattern", "2:4", *texts, *FEW, *REFERENCE, "--json")
    result = vivace("prune", text_model, out, *flags)
    assert result.code == 0, result.err
    printed = json.loads(result.out)
    assert printed == {"folder": str(out), **json.loads((out / "vivace.json").read_text())}
    assert (printed["recipe"]["sparsity"], printed["sparsity"]) == ("2:4", 0.5)
    assert printed["evidence"]["figures"]["kl_mean"]["value"] > 0
    answer = vivace("generate", out, "--prompt", "ab", "--max-tokens", 2, *REFERENCE)
    assert answer.code == 0, answer.err


def test_a_smaller_shape_and_its_distillation(
    vivace: Vivace, text_model: Path, text: Path, tmp_path: Path
) -> None:
    small, healed = tmp_path / "small", tmp_path / "healed"
    texts = ("--calibration", text, "--eval-text", text)
    shape = ("--layers", 1, "--mlp-size", 64)
    result = vivace("prune", text_model, small, *shape, *texts, *FEW, *REFERENCE, "--json")
    assert result.code == 0, result.err
    size = json.loads(result.out)["evidence"]["size"]
    assert size["parameters"] < size["base_parameters"]
    pytest.importorskip("torch")
    plan = ("--steps", 2, "--batch-tokens", 64, "--run-len", 32, "--eval-windows", 1)
    arguments = (text_model, small, healed, "--text", text, "--eval-text", text, *plan)
    result = vivace("distill", *arguments)
    assert result.code == 0, result.err
    assert "Step 2: " in result.err
    assert "kl mean" in result.out


def test_wrong_usage(vivace: Vivace, bare_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    for flags, message in (
        (("--method", "magic"), "no method 'magic'"),
        (("--method", "wanda", "--layers", 1), "--method set weights to zero"),
        (("--pattern", "2:4", "--sparsity", 0.5), "give one of the two"),
        (("--method", "wanda"), "no tokenizer"),
    ):
        result = vivace("prune", bare_model, out, *flags, *REFERENCE)
        assert (result.code, message in result.err) == (2, True), result.err
    result = vivace("distill", bare_model, bare_model, out, "--temperature", 0)
    assert (result.code, "above 0" in result.err) == (2, True), result.err


def test_magnitude_needs_no_text(vivace: Vivace, bare_model: Path, tmp_path: Path) -> None:
    flags = ("--method", "magnitude", "--sparsity", 0.3, "--eval-windows", 0)
    result = vivace("prune", bare_model, tmp_path / "b", *flags, *REFERENCE)
    assert result.code == 0, result.err
    about = json.loads((tmp_path / "b" / "vivace.json").read_text())
    assert about["sparsity"] == pytest.approx(0.3, abs=0.001)
