"""Tokenizers into GGUF metadata, and back: the same tokens."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from tests.text.test_gguf_tokenizer import MINI, TEXTS, of_mini, of_pieces, tokenizer_of
from vivace.core.errors import CheckpointError
from vivace.formats.gguf.tokenizer import tokenizer_config, tokenizer_json
from vivace.formats.gguf.vocabulary import tokenizer_metadata
from vivace.text.tokenizer import special_token

NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")
UNUSED = 5


def written(described: dict[str, Any], config: dict[str, Any], size: int) -> dict[str, Any]:
    special = {name: special_token(config, name) for name in NAMES}
    return dict(tokenizer_metadata(described, special, adds_bos=True, size=size))


def same_values(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for key, value in expected.items():
        if key != "general.architecture":
            np.testing.assert_array_equal(found[key], value)


@pytest.mark.parametrize(
    "cut", ["gpt-2", "llama3", "dbrx", "qwen2", "starcoder", "gpt-4o", "tekken"]
)
def test_byte_pairs_go_back(cut: str, tmp_path: Any) -> None:
    values = of_mini(cut)
    described = tokenizer_json(tmp_path / "x", values)
    assert described is not None
    described = json.loads(Tokenizer.from_str(json.dumps(described)).to_str())
    found = written(described, tokenizer_config(values), 8192)
    same_values(found, values)


def test_the_bundled_one(tmp_path: Any) -> None:
    described = json.loads((MINI / "tokenizer.json").read_text())
    config = json.loads((MINI / "tokenizer_config.json").read_text())
    same_values(written(described, config, 8192), of_mini())


@pytest.mark.parametrize("prefix", [True, False])
def test_pieces_go_back(prefix: bool, tmp_path: Any) -> None:
    values = of_pieces(add_space_prefix=prefix)
    described = tokenizer_json(tmp_path / "x", values)
    assert described is not None
    rust = Tokenizer.from_str(json.dumps(described))
    size = rust.get_vocab_size()
    found = written(json.loads(rust.to_str()), tokenizer_config(values), size)
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in found.items()}
    again = tokenizer_of(tmp_path / "again.gguf", {"general.architecture": "llama", **plain})
    expected = tokenizer_of(tmp_path / "once.gguf", values)
    for text in [*TEXTS, "hello world", "  hellohello ", "wörld é 東 x", "olleh"]:
        assert again.encode(text) == expected.encode(text)
    np.testing.assert_array_equal(
        found["tokenizer.ggml.token_type"], values["tokenizer.ggml.token_type"]
    )


def test_a_table_that_is_larger_is_filled_up() -> None:
    described = json.loads((MINI / "tokenizer.json").read_text())
    found = written(described, {}, 8200)
    assert found["tokenizer.ggml.tokens"][-1] == "[PAD8199]"
    assert found["tokenizer.ggml.token_type"][8191:].tolist() == [1] + [UNUSED] * 8
    assert "tokenizer.ggml.bos_token_id" not in found


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": {"type": "WordPiece"}}, "WordPiece, no byte pairs"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "cuts text in a way of its own"),
        ({"normalizer": {"type": "NFKC"}}, "cuts text in a way of its own"),
    ],
)
def test_what_llama_cpp_has_no_name_for(change: dict[str, Any], reason: str) -> None:
    described = json.loads((MINI / "tokenizer.json").read_text())
    with pytest.raises(CheckpointError, match=reason):
        written({**described, **change}, {}, 8192)
    with pytest.raises(CheckpointError, match="larger than the model's table"):
        written(described, {}, 8000)
