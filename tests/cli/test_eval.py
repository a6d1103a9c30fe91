"""`vivace eval` on tiny models, end to end, and on the bundled one beside its rounded self."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from program import Result, Vivace

REFERENCE = ("--backend", "reference")
SHORT = ("--context", 64, "--stride", 32, *REFERENCE)
GREEDY = ("--greedy-prompts", 3, "--greedy-prompt-len", 8, "--greedy-len", 6)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("The quick brown fox jumps over the lazy dog. " * 9)
    return path


def answer(result: Result) -> dict[str, Any]:
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert isinstance(found, dict)
    return found


def test_perplexity_and_bits_per_byte(vivace: Vivace, text_model: Path, text: Path) -> None:
    result = answer(vivace("eval", text_model, "--text", text, *SHORT, "--json"))
    assert result["tokens"] == result["bytes"] == text.stat().st_size - 1  # no start token
    assert result["start_token"] is None
    assert (result["protocol"]["context"], result["protocol"]["stride"]) == (64, 32)
    perplexity, bits = result["perplexity"], result["bits_per_byte"]
    assert math.log2(perplexity["value"]) == pytest.approx(bits["value"])
    for figure in (perplexity, bits):
        assert figure["low"] < figure["value"] < figure["high"]
    assert not {"kl_mean", "base_perplexity", "greedy_agreement", "recall"} & set(result)


def test_a_model_is_not_far_from_itself(vivace: Vivace, text_model: Path, text: Path) -> None:
    recall = ("--recall-prompts", 2)
    flags = ("--text", text, "--against", text_model, *SHORT, *GREEDY, *recall, "--json")
    result = answer(vivace("eval", text_model, *flags))
    for name in ("kl_mean", "kl_p99", "delta_nll"):
        assert result[name] == {"value": 0, "low": 0, "high": 0}
    for name in ("top1_agreement", "greedy_agreement", "greedy_identical"):
        assert result[name] == {"value": 1, "low": 1, "high": 1}
    for name in ("perplexity", "bits_per_byte", "recall"):
        assert result[name] == result[f"base_{name}"]


def test_rounding_shows_beside_what_was_rounded(
    vivace: Vivace, text_model: Path, text: Path
) -> None:
    flags = ("--text", text, *SHORT, *GREEDY, "--json")
    alone = answer(vivace("eval", text_model, *flags))
    flags = ("--against", text_model, "--quantize", "int4-g32", *flags)
    result = answer(vivace("eval", text_model, *flags))
    assert result["base_perplexity"] == alone["perplexity"]
    assert 0 < result["kl_mean"]["low"] < result["kl_mean"]["value"] < result["kl_p99"]["value"]
    gap = math.log(result["perplexity"]["value"] / result["base_perplexity"]["value"])
    assert result["delta_nll"]["value"] == pytest.approx(gap, rel=1e-6)


def test_a_table_and_a_picture(
    vivace: Vivace, text_model: Path, text: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    flags = ("--text", text, *SHORT, *GREEDY)
    alone, beside = tmp_path / "alone.svg", tmp_path / "beside.png"
    printed = vivace("eval", text_model, *flags, "--plot", alone)
    assert printed.code == 0, printed.err
    assert re.search(r"^bits per byte +\S+ +\S+ +\S+$", printed.out, re.M)
    flags = (*flags, "--against", text_model, "--quantize", "int8", "--plot", beside)
    assert vivace("eval", text_model, *flags).code == 0
    assert alone.stat().st_size > 1000
    assert beside.stat().st_size > 1000


def test_only_some_windows(vivace: Vivace, text_model: Path, text: Path) -> None:
    flags = ("--text", text, "--max-windows", 2, *SHORT, "--json")
    result = answer(vivace("eval", text_model, *flags))
    assert (result["windows"], result["tokens"]) == (2, 64 + 32)


def test_models_of_other_tokens_are_not_compared(
    vivace: Vivace, text_model: Path, bare_model: Path, text: Path
) -> None:
    flags = ("--text", text, *SHORT)
    for pair in ((text_model, bare_model), (bare_model, text_model)):
        result = vivace("eval", pair[0], "--against", pair[1], *flags)
        assert (result.code, result.out) == (2, "")
        assert "no tokenizer" in result.err
    result = vivace("eval", text_model, "--against", "vivace-mini", *flags)
    assert (result.code, result.out) == (2, "")
    assert "other tokens" in result.err


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--context", 8), "stride must be 1 to context 8"),
        (("--text", "absent.txt"), "No such file"),
        (("--context", 100_000), "past the 256 positions"),
    ],
)
def test_wrong_usage(vivace: Vivace, text_model: Path, flags: tuple[Any, ...], reason: str) -> None:
    result = vivace("eval", text_model, *flags, *REFERENCE)
    assert (result.code, result.out) == (2, "")
    assert reason in result.err


def test_the_bundled_model_rounded_to_int8(vivace: Vivace) -> None:
    """The figures that int8 is known for, on a part of the held-out text."""
    pytest.importorskip("vivace.backends.cpu._native")
    flags = ("--quantize", "int8", "--against", "vivace-mini", "--max-windows", 6, "--json")
    flags = (*flags, "--recall-prompts", 12)
    result = answer(vivace("eval", *flags, "--backend", "cpu", "--no-packed-cache"))
    assert result["start_token"] in (0, None)  # windows in the middle of a file have none
    assert 0.8 < result["base_bits_per_byte"]["value"] < 1.3
    assert 0 < result["kl_mean"]["value"] < 0.005
    assert 0.97 < result["top1_agreement"]["value"] < 1
    assert 0.5 < result["greedy_agreement"]["value"] <= 1
