"""Streaming text: equal to the whole decode, never half a character."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as RustTokenizer
from trained import KINDS

from vivace.text.detokenizer import IncrementalDetokenizer
from vivace.text.tokenizer import Tokenizer

pytestmark = pytest.mark.tiny

HARD = [
    "added: a plain é.",
    "👩‍👩‍👧‍👦👍🏽🇫🇷 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "e\u0301 \u200d\u200b\ufffd \ufeff",
    "東京タワー, 한국어, עברית, हिन्दी",
    "tab\tnewline\r\n  two  spaces ▁ \x00\x7f",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 🤷🏾‍♀️",
]
text = st.one_of(
    st.sampled_from(HARD),
    st.text(max_size=40),
    st.text(alphabet="aé東👩‍👍🏽 \n", max_size=40),
)


@cache
def rust_of(kind: str) -> RustTokenizer:
    return KINDS[kind]()


@cache
def tokenizer_of(kind: str) -> Tokenizer:
    return Tokenizer(rust_of(kind))


def increments(tokenizer: Tokenizer, token_ids: list[int], **options: bool) -> list[str]:
    detokenizer = IncrementalDetokenizer(tokenizer, **options)
    return [*map(detokenizer.push, token_ids), detokenizer.flush()]


@pytest.mark.parametrize("kind", KINDS)
@given(text=text)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_text_streams_as_the_library_decodes_it(kind: str, text: str) -> None:
    rust, tokenizer = rust_of(kind), tokenizer_of(kind)
    token_ids = rust.encode(text).ids
    pieces = increments(tokenizer, token_ids, skip_special_tokens=False, continues=False)
    assert "".join(pieces) == rust.decode(token_ids, skip_special_tokens=False)
    if kind in ("byte_level", "gemma_like"):
        spaces = text if kind == "byte_level" else text.replace("▁", " ")
        assert "".join(pieces) == spaces
        assert pieces[-1] == ""


@pytest.mark.parametrize("skip", [True, False])
@given(data=st.data())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_bytes_stream_as_the_library_decodes_them(skip: bool, data: st.DataObject) -> None:
    """Random tokens of a byte-level vocabulary make invalid UTF-8 most of the time."""
    rust, tokenizer = rust_of("byte_level"), tokenizer_of("byte_level")
    token_ids = data.draw(st.lists(st.integers(0, rust.get_vocab_size() + 3), max_size=40))
    pieces = increments(tokenizer, token_ids, skip_special_tokens=skip)
    known = [token_id for token_id in token_ids if token_id < rust.get_vocab_size()]
    assert "".join(pieces) == rust.decode(known, skip_special_tokens=skip)
    assert "".join(pieces) == tokenizer.decode(token_ids, skip_special_tokens=skip)


@pytest.mark.parametrize("kind", ["byte_fallback", "gemma_like"])
@given(data=st.binary(max_size=24))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_byte_tokens_read_as_utf8(kind: str, data: bytes) -> None:
    """Where the library gives up on a whole run of bytes, its valid characters stay."""
    rust, tokenizer = rust_of(kind), tokenizer_of(kind)
    token_ids = [rust.token_to_id(f"<0x{byte:02X}>") for byte in data]
    pieces = increments(tokenizer, token_ids)
    assert "".join(pieces) == data.decode(errors="replace")


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback"])
def test_a_character_appears_with_its_last_byte(kind: str) -> None:
    rust, tokenizer = rust_of(kind), tokenizer_of(kind)
    names = [f"<0x{byte:02X}>" for byte in "🦜".encode()]
    if kind == "byte_level":
        names = ["ð", "Ł", "¦", "ľ"]
    token_ids = [rust.token_to_id(name) for name in names]
    assert increments(tokenizer, token_ids) == ["", "", "", "🦜", ""]
    assert increments(tokenizer, token_ids[:2]) == ["", "", "\ufffd"]


def test_a_continuation_keeps_its_leading_space() -> None:
    tokenizer = tokenizer_of("byte_fallback")
    token_ids = tokenizer.encode("the dog")
    assert "".join(increments(tokenizer, token_ids)) == " the dog"
    assert tokenizer.decode(token_ids) == "the dog"


def test_special_tokens_do_not_part_a_character() -> None:
    rust, tokenizer = rust_of("byte_level"), tokenizer_of("byte_level")
    start, end, special = map(rust.token_to_id, ("Ã", "©", "<|im_start|>"))
    assert "".join(increments(tokenizer, [start, special, end])) == "é"
    shown = increments(tokenizer, [special, start, end], skip_special_tokens=False)
    assert shown == ["<|im_start|>", "", "é", ""]
