"""The models that ship: their size, their quality, and that Transformers agrees on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from vivace.backends.protocol import Batch, BatchLimits
from vivace.backends.reference import ReferenceBackend
from vivace.evaluate.bits import bits_per_byte
from vivace.evaluate.corpus import held_out_files
from vivace.formats.checkpoint import open_checkpoint
from vivace.models.loader import load_decoder

ASSETS = Path(str(files("vivace") / "assets"))
MODELS = ("vivace-mini", "vivace-draft")
PROMPT = "import os\n\n\ndef main():\n    for name in os.listdir('.'):\n"


@cache
def logits_of(name: str) -> Any:
    """token ids to [len, vocab], on the reference backend."""
    backend = ReferenceBackend()
    decoder = load_decoder(open_checkpoint(ASSETS / name), backend)
    program = backend.compile(decoder.logits, (), BatchLimits(1024, 1, 1024))

    def logits(token_ids: Sequence[int]) -> NDArray[np.float32]:
        rows = np.arange(len(token_ids), dtype=np.int32)
        ends = np.asarray([0, len(rows)], np.int32)
        tokens = np.asarray(token_ids, np.int32)
        return backend.numpy(program.run(Batch(tokens, rows, ends, ends[1:], (), rows)))

    return logits


@cache
def tokenizer(name: str) -> Tokenizer:
    return Tokenizer.from_file(str(ASSETS / name / "tokenizer.json"))


@pytest.mark.parametrize(("name", "megabytes"), [("vivace-mini", 24), ("vivace-draft", 3.1)])
def test_they_are_as_small_as_promised(name: str, megabytes: float) -> None:
    assert (ASSETS / name / "model.safetensors").stat().st_size <= megabytes * 1e6
    assert open_checkpoint(ASSETS / name).dtype == "bfloat16"


def test_they_share_one_tokenizer() -> None:
    texts = [(ASSETS / name / "tokenizer.json").read_bytes() for name in MODELS]
    assert texts[0] == texts[1]
    assert tokenizer("vivace-mini").get_vocab_size() == 8192


@pytest.mark.parametrize(("name", "bar"), [("vivace-mini", 1.0), ("vivace-draft", 1.15)])
def test_held_out_text_is_predicted(name: str, bar: float) -> None:
    """On the small files alone, for the time; the whole is in training.json."""
    small = [file for file in held_out_files() if 500 < file.num_bytes < 3000]
    result = bits_per_byte(logits_of(name), lambda text: tokenizer(name).encode(text).ids, small)
    assert result.num_bytes > 5000
    assert result.value < bar


@pytest.mark.parametrize("name", MODELS)
def test_the_whole_held_out_takes_fewer_bits_than_xz(name: str) -> None:
    figures = json.loads((ASSETS / name / "training.json").read_text())
    assert figures["bytes"] == sum(file.num_bytes for file in held_out_files())
    assert figures["bits"] < figures["xz_bits"]


@pytest.mark.oracle
@pytest.mark.parametrize("name", MODELS)
def test_transformers_reads_them_and_agrees(name: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    token_ids = transformers.AutoTokenizer.from_pretrained(ASSETS / name)(PROMPT).input_ids
    assert token_ids == tokenizer(name).encode(PROMPT).ids
    model = transformers.AutoModelForCausalLM.from_pretrained(ASSETS / name, dtype=torch.float32)
    with torch.no_grad():
        expected = model(torch.tensor([token_ids])).logits[0].numpy()
    difference = np.abs(logits_of(name)(token_ids) - expected).max()
    assert difference / np.abs(expected).max() < 1e-4
