"""Tokenizers out of GGUF metadata read text as the tokenizers that they were made from."""

from __future__ import annotations

import json
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.formats.gguf_files import write_gguf
from vivace.core.errors import CheckpointError
from vivace.evaluate.corpus import held_out_files
from vivace.text.chat import load_chat_template
from vivace.text.tokenizer import load_tokenizer

MINI = Path(str(files("vivace") / "assets" / "vivace-mini"))
NORMAL, UNKNOWN, CONTROL, USER, BYTE = 1, 2, 3, 4, 6
TEXTS = [
    "def add(a, b):\n    return a + b\n",
    "Größe, naïve – 東京 🙂 it's 12345 o'clock,  WE'LL  see\r\n\n\tend ",
    "<|im_start|>user\nhi<|im_end|>\n",
    "",
]


def metadata(name: str, **values: Any) -> dict[str, Any]:
    return {"general.architecture": "llama", "tokenizer.ggml.model": name} | {
        f"tokenizer.ggml.{key}": value for key, value in values.items()
    }


def of_mini(cut: str = "gpt-2") -> dict[str, Any]:
    """The bundled tokenizer as a converter writes it."""
    described = json.loads((MINI / "tokenizer.json").read_text())
    vocabulary, merges = described["model"]["vocab"], described["model"]["merges"]
    special = {token["id"] for token in described["added_tokens"]}
    return metadata(
        "gpt2",
        pre=cut,
        tokens=sorted(vocabulary, key=vocabulary.__getitem__),
        token_type=[CONTROL if i in special else NORMAL for i in range(len(vocabulary))],
        merges=[" ".join(merge) for merge in merges],
        bos_token_id=0,
        eos_token_id=0,
        add_bos_token=True,
    )


def tokenizer_of(path: Path, values: dict[str, Any]) -> Any:
    return load_tokenizer(write_gguf(path, values, {}))


def test_byte_pairs_are_those_of_the_folder(tmp_path: Path) -> None:
    found, expected = tokenizer_of(tmp_path / "x.gguf", of_mini()), load_tokenizer(MINI)
    assert expected is not None
    assert (found.bos_token_id, found.eos_token_id) == (0, 0)
    assert found.vocab_size == expected.vocab_size
    for text in [*TEXTS, *(file.text for file in held_out_files()[:8])]:
        token_ids = expected.encode(text)
        assert found.encode(text) == token_ids
        assert found.decode(token_ids) == expected.decode(token_ids)


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        ("gpt-2", ["it", "'s", " 12345", " WE", "'", "LL", "!?", "\n", "\n", "x"]),
        ("smollm", ["it", "'s", " ", *"12345", " WE", "'", "LL", "!?", "\n", "\n", "x"]),
        ("llama-bpe", ["it", "'s", " ", "123", "45", " WE", "'LL", "!?\n\n", "x"]),
        ("qwen2", ["it", "'s", " ", *"12345", " WE", "'LL", "!?\n\n", "x"]),
        ("gpt-4o", ["it's", " ", "123", "45", " WE'LL", "!?\n\n", "x"]),
        ("tekken", ["it", "'s", " ", *"12345", " WE", "'LL", "!?\n\n", "x"]),
    ],
)
def test_how_text_is_cut(tmp_path: Path, cut: str, expected: list[str]) -> None:
    """Pieces before any merge, of a vocabulary of single bytes."""
    from tokenizers import Tokenizer

    from vivace.formats.gguf.tokenizer import tokenizer_json

    described = tokenizer_json(tmp_path / "x.gguf", of_mini(cut))
    rust = Tokenizer.from_str(json.dumps(described))
    pieces = rust.pre_tokenizer.pre_tokenize_str("it's 12345 WE'LL!?\n\nx")
    assert ["".join(piece) for piece, _ in pieces] == [
        text.replace(" ", "Ġ").replace("\n", "Ċ") for text in expected
    ]


# --- sentence pieces ------------------------------------------------------------------------------

PIECES = ["he", "ll", "lo", "llo", "hell", "▁h", "▁he", "▁hello", "o▁", "▁w", "or", "ld", "world"]
LETTERS = "▁helowrdäx"


def of_pieces(**values: Any) -> dict[str, Any]:
    """Pieces with random scores, letters with bad ones, and all bytes."""
    scores = np.random.default_rng(4).permutation(len(PIECES)).tolist()
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256]
    letters = sorted(set(LETTERS))
    return metadata(
        "llama",
        tokens=[*tokens, *PIECES, *letters],
        scores=[0.0] * len(tokens) + [-float(s) for s in scores] + [-1000.0] * len(letters),
        token_type=kinds + [NORMAL] * (len(PIECES) + len(letters)),
        bos_token_id=1,
        eos_token_id=2,
        unknown_token_id=0,
        **values,
    )


def best_neighbours(text: str, values: dict[str, Any]) -> list[int]:
    """SentencePiece's rule, word for word: merge the two neighbours whose piece scores best, the
    leftmost of equals, until no two make a piece; what is no piece is its bytes."""
    tokens, scores = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.scores"]
    ids = {token: i for i, token in enumerate(tokens)}
    parts = list(text)
    while True:
        pairs = [
            (-scores[ids[a + b]], place)
            for place, (a, b) in enumerate(pairwise(parts))
            if a + b in ids
        ]
        if not pairs:
            break
        _, place = min(pairs)
        parts[place : place + 2] = ["".join(parts[place : place + 2])]
    found = []
    for part in parts:
        found += [ids[part]] if part in ids else [ids[f"<0x{b:02X}>"] for b in part.encode()]
    return found


@pytest.mark.parametrize("text", ["hello world", "hello", "  hellohello ", "wörld é 東 x", "olleh"])
@pytest.mark.parametrize("prefix", [True, False])
def test_pieces_merge_by_score(tmp_path: Path, text: str, prefix: bool) -> None:
    values = of_pieces(add_space_prefix=prefix)
    found = tokenizer_of(tmp_path / "x.gguf", values)
    lead = "▁" if prefix else ""
    expected = best_neighbours(lead + text.replace(" ", "▁"), values)
    assert found.encode(text) == [1, *expected]  # sentence pieces begin with a start token
    assert found.decode(found.encode(text)) == text


def test_a_start_token_is_not_added_where_the_file_says_so(tmp_path: Path) -> None:
    found = tokenizer_of(tmp_path / "x.gguf", of_pieces(add_bos_token=False))
    assert found.encode("hello")[0] != 1


@pytest.mark.parametrize(
    ("cut", "added"), [("llama-bpe", True), ("tekken", True), ("qwen2", False)]
)
def test_a_start_token_where_the_file_does_not_say(tmp_path: Path, cut: str, added: bool) -> None:
    values = of_mini(cut)
    del values["tokenizer.ggml.add_bos_token"]
    found = tokenizer_of(tmp_path / "x.gguf", values)
    assert (found.encode("hello")[0] == 0) == added


# --- what is missing ------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [{"general.architecture": "llama"}, metadata("none")])
def test_no_tokenizer(tmp_path: Path, values: dict[str, Any]) -> None:
    assert tokenizer_of(tmp_path / "x.gguf", values) is None


def test_a_chat_template(tmp_path: Path) -> None:
    values = of_mini() | {"tokenizer.chat_template": "{{ bos_token }}{{ messages[0].content }}!"}
    template = load_chat_template(write_gguf(tmp_path / "x.gguf", values, {}))
    assert template.render([{"role": "user", "content": "hi"}]) == "<|endoftext|>hi!"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (metadata("t5", tokens=["a"]), "of the kind 't5', which is not supported"),
        (metadata("gpt2", tokens=["a"], pre="bloom"), "cuts text like 'bloom'"),
        (metadata("llama", tokens=["a"]), r"is incomplete \('tokenizer.ggml.scores'\)"),
        (metadata("gpt2", pre="gpt-2"), "is incomplete"),
        (metadata("gpt2", tokens=["a"]), "does not say how its tokenizer cuts text"),
        (metadata("gpt2", pre="gpt-2", tokens=["a"], merges=["x y"]), "cannot be read"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, values: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        tokenizer_of(tmp_path / "x.gguf", values)
