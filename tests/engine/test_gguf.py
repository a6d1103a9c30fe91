"""vivace-mini as GGUF: the same tokens where the type is exact, the file's own values elsewhere."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from vivace import LLM, SamplingParams
from vivace.formats.checkpoint import open_checkpoint

gguf_models = pytest.importorskip("tests.formats.gguf_models", exc_type=ImportError)

pytestmark = pytest.mark.oracle

MINI = Path(str(files("vivace") / "assets" / "vivace-mini"))
PROMPT = "import os\n\n\ndef main():\n    for name in os.listdir('.'):\n"
MESSAGES = [{"role": "user", "content": "Write a function that adds."}]
WRITTEN = ["F16", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]  # what the oracle can quantize to, beside Q4_0


def engine(model: Path | None, **options: str) -> LLM:
    return LLM(None if model is None else str(model), notify=lambda _: None, **options)


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In bfloat16, as the bundled model is stored."""
    return gguf_models.convert(MINI, tmp_path_factory.mktemp("exact") / "mini.gguf", "BF16")


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_an_exact_type_gives_the_same_tokens(exact: Path, backend: str) -> None:
    if backend == "cpu":
        pytest.importorskip("vivace.backends.cpu._native")
    params = SamplingParams(temperature=0, max_tokens=24)
    found, expected = (engine(model, backend=backend) for model in (exact, None))
    assert found.info.precision == expected.info.precision
    tokens = expected.tokenizer.encode(PROMPT)  # type: ignore[union-attr]
    np.testing.assert_array_equal(found.logits(tokens), expected.logits(tokens))
    answers = [llm.generate(PROMPT, params)[0].outputs[0] for llm in (found, expected)]
    assert answers[0].token_ids == answers[1].token_ids
    assert answers[0].text == answers[1].text


def quantized(path: Path, kind: str) -> Path:
    return gguf_models.convert(MINI, path, kind)


def dequantized(model: Path, folder: Path) -> Path:
    """A folder of the file's values in float32."""
    folder.mkdir()
    tensors = open_checkpoint(model).tensors
    save_file({n: tensors.get(n).to_float32() for n in tensors}, folder / "model.safetensors")
    (folder / "config.json").write_text((MINI / "config.json").read_text())
    return folder


def tokens_of(text: str) -> list[int]:
    tokenizer = engine(None, backend="reference").tokenizer
    assert tokenizer is not None
    return tokenizer.encode(text)


@pytest.mark.parametrize("kind", WRITTEN)
def test_dequantized_types_compute_their_values_in_float32(tmp_path: Path, kind: str) -> None:
    model = quantized(tmp_path / "mini.gguf", kind)
    plain = dequantized(model, tmp_path / "plain")
    tokens = tokens_of(PROMPT)
    found, expected = (
        engine(each, backend="reference", dtype="float32") for each in (model, plain)
    )
    np.testing.assert_array_equal(found.logits(tokens), expected.logits(tokens))


def test_q4_0_is_multiplied_as_it_is_stored(tmp_path: Path) -> None:
    """Layers keep the file's codes and scales; activations are rounded to bfloat16, no lower."""
    model = quantized(tmp_path / "mini.gguf", "Q4_0")
    plain = dequantized(model, tmp_path / "plain")
    tokens = tokens_of(PROMPT)
    found = engine(model, backend="reference")
    assert found.info.quantization == "int4-g32-a16"
    expected = engine(plain, backend="reference").logits(tokens)
    difference = np.abs(found.logits(tokens) - expected).max()
    assert 0 < difference < 0.02 * np.abs(expected).max()


def test_the_cpu_backend_agrees_on_q4_0(tmp_path: Path) -> None:
    pytest.importorskip("vivace.backends.cpu._native")
    model = quantized(tmp_path / "mini.gguf", "Q4_0")
    tokens = tokens_of(PROMPT)
    found, expected = (
        engine(model, backend=name, dtype="float32").logits(tokens) for name in ("cpu", "reference")
    )
    error = np.sqrt(np.square(found - expected).mean() / np.square(expected).mean())
    assert error < 5e-3


def test_what_bfloat16_rounds_is_said(tmp_path: Path) -> None:
    model = quantized(tmp_path / "mini.gguf", "Q8_0")
    lines: list[str] = []
    LLM(str(model), backend="reference", dtype="bfloat16", notify=lines.append)
    (line,) = (line for line in lines if "Q8_0" in line)
    assert "kept as bfloat16" in line
    assert "--dtype float32" in line
    lines.clear()
    LLM(str(model), backend="reference", dtype="float32", notify=lines.append)
    assert not any("Q8_0" in line for line in lines)


def test_chats_and_end_tokens_are_those_of_the_folder(exact: Path) -> None:
    found, expected = (engine(each, backend="reference") for each in (exact, None))
    assert set(found.info.eos_token_ids) == set(expected.info.eos_token_ids)
    params = SamplingParams(temperature=0, max_tokens=4)
    answers = [llm.chat(MESSAGES, params)[0] for llm in (found, expected)]
    assert answers[0].prompt_token_ids == answers[1].prompt_token_ids
    assert answers[0].outputs[0].token_ids == answers[1].outputs[0].token_ids


def test_a_matrix_of_mixed_types_becomes_floats(tmp_path: Path) -> None:
    """Values as they are in the file; the other matrices keep their codes."""
    kinds = {"attn_v": "F16", "ffn_up": "Q8_0"}
    model = gguf_models.convert(MINI, tmp_path / "mini.gguf", "Q4_0", kinds)
    plain = dequantized(model, tmp_path / "plain")
    tokens = tokens_of(PROMPT)
    found = engine(model, backend="reference", dtype="float32")
    expected = engine(plain, backend="reference", dtype="float32").logits(tokens)
    difference = np.abs(found.logits(tokens) - expected).max()
    assert difference < 0.02 * np.abs(expected).max()
