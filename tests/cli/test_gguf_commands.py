"""A GGUF file in place of a folder."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest
from program import Vivace

gguf_models = pytest.importorskip("tests.formats.gguf_models", exc_type=ImportError)

pytestmark = pytest.mark.oracle

REFERENCE = ("--backend", "reference")


@pytest.fixture(scope="module")
def q4_0(bare_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    converted: Path = gguf_models.convert(bare_model, path, "Q4_0")
    return converted


def test_generate(vivace: Vivace, tmp_path: Path) -> None:
    """The bundled model's tokens, text and all, from a file of it."""
    folder = Path(str(files("vivace") / "assets" / "vivace-mini"))
    model = gguf_models.convert(folder, tmp_path / "mini.gguf", "BF16")
    flags = ("--prompt", "import os\n", "--max-tokens", 8, "--temperature", 0, *REFERENCE, "--json")
    found, expected = (json.loads(vivace("generate", *m, *flags).out) for m in ((model,), ()))
    assert found["token_ids"] == expected["token_ids"]
    assert found["text"] == expected["text"]


def test_inspect_counts_what_is_stored(vivace: Vivace, q4_0: Path, bare_model: Path) -> None:
    flags = (*REFERENCE, "--dtype", "bfloat16", "--json")
    found, plain = (
        json.loads(vivace("inspect", model, *flags).out) for model in (q4_0, bare_model)
    )
    assert found["family"] == "llama"
    assert found["parameters"] == plain["parameters"]
    layers = 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128)
    saved = plain["memory"]["weight_bytes"] - found["memory"]["weight_bytes"]
    assert saved == layers * 2 - layers * 18 // 32


def test_a_file_that_is_not_there(vivace: Vivace) -> None:
    result = vivace("generate", "absent.gguf", "--prompt", "x")
    assert (result.code, result.out) == (1, "")
    assert "There is no file absent.gguf" in result.err
