"""Tokenizers from checkpoint folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders
from trained import KINDS, byte_level, with_bos

from vivace.core.errors import CheckpointError, RequestError
from vivace.text.tokenizer import Tokenizer, load_tokenizer

pytestmark = pytest.mark.tiny

BOS = {"bos_token": "<s>", "eos_token": {"content": "</s>", "special": True}}


def save(folder: Path, rust: RustTokenizer, **config: object) -> Path:
    rust.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_loads_from_a_folder(tmp_path: Path) -> None:
    rust = byte_level()
    tokenizer = load_tokenizer(save(tmp_path, rust, **BOS))
    assert tokenizer is not None
    assert tokenizer.vocab_size == rust.get_vocab_size()
    assert tokenizer.bos_token_id == rust.token_to_id("<s>")
    assert tokenizer.eos_token_id == rust.token_to_id("</s>")
    text = "naïve 東京 👍🏽"
    assert tokenizer.encode(text) == rust.encode(text).ids
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens_may_stand_in_their_own_file(tmp_path: Path) -> None:
    rust = byte_level()
    rust.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(BOS))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    assert tokenizer.bos_token_id == rust.token_to_id("<s>")


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback"])
def test_bos_is_added_once_and_never_doubled(kind: str) -> None:
    tokenizer = Tokenizer(with_bos(KINDS[kind]()), BOS)
    bos, plain = tokenizer.bos_token_id, tokenizer.encode("hi", add_special_tokens=False)
    assert tokenizer.encode("hi") == [bos, *plain]
    assert tokenizer.encode("<s>hi").count(bos) == 1
    assert tokenizer.encode("<s>hi", add_special_tokens=False).count(bos) == 1
    assert tokenizer.encode("") == [bos]


def test_the_configuration_decides_on_bos() -> None:
    never = Tokenizer(with_bos(byte_level()), {**BOS, "add_bos_token": False})
    assert never.bos_token_id not in never.encode("hi")
    always = Tokenizer(byte_level(), {**BOS, "add_bos_token": True})
    plain = always.encode("hi", add_special_tokens=False)
    assert always.encode("hi") == [always.bos_token_id, *plain]
    assert always.encode("<s>hi").count(always.bos_token_id) == 1


def test_stored_truncation_and_padding_are_off() -> None:
    rust = byte_level()
    rust.enable_truncation(3)
    rust.enable_padding(length=50)
    text = "one two three four five"
    tokenizer = Tokenizer(RustTokenizer.from_str(rust.to_str()))
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_tokens_only_the_configuration_knows_are_added() -> None:
    rust = byte_level()
    size = rust.get_vocab_size()
    declared = {str(size): {"content": "<|call|>", "special": True, "normalized": False}}
    tokenizer = Tokenizer(rust, {"added_tokens_decoder": declared})
    assert tokenizer.encode("<|call|>") == [size]
    assert tokenizer.decode([size]) == ""
    assert tokenizer.vocab_size == size + 1
    with pytest.raises(CheckpointError, match="does not follow"):
        Tokenizer(byte_level(), {"added_tokens_decoder": {"9999": {"content": "<|x|>"}}})


def test_token_text_keeps_the_space() -> None:
    tokenizer = Tokenizer(KINDS["byte_fallback"]())
    assert "".join(map(tokenizer.token_text, tokenizer.encode("a dog"))) == " a dog"
    assert tokenizer.token_text(10**6) == ""


def test_a_folder_without_a_tokenizer_has_none(tmp_path: Path) -> None:
    assert load_tokenizer(tmp_path) is None


@pytest.mark.parametrize("name", ["tokenizer.model", "vocab.json", "tekken.json"])
def test_other_formats_say_how_to_convert(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=f"{name}.*save_pretrained"):
        load_tokenizer(tmp_path)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": ')
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read"):
        load_tokenizer(tmp_path)
    save(tmp_path, byte_level())
    (tmp_path / "tokenizer_config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json must hold"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "decoder",
    [
        decoders.CTC(),
        decoders.Strip(" ", 1, 1),
        decoders.Sequence([decoders.Replace("x", "y"), decoders.ByteLevel()]),
    ],
)
def test_an_unknown_decoder_is_refused(decoder: decoders.Decoder) -> None:
    rust = byte_level()
    rust.decoder = decoder
    with pytest.raises(CheckpointError, match=r"The decoder .* is not supported"):
        Tokenizer(rust)


def test_a_missing_decoder_joins_with_spaces() -> None:
    rust = byte_level()
    rust.decoder = None
    token_ids = rust.encode("ab").ids
    assert Tokenizer(rust).decode(token_ids) == rust.decode(token_ids)


def test_a_lone_surrogate_is_the_requests_fault() -> None:
    with pytest.raises(RequestError, match="surrogate"):
        Tokenizer(byte_level()).encode("a\ud800")
