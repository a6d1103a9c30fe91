"""Text to token ids and back, by a checkpoint's `tokenizer.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vivace.core.errors import CheckpointError, RequestError
from vivace.formats.gguf import tokenizer as gguf
from vivace.formats.gguf.checkpoint import is_gguf, read_metadata
from vivace.text.detokenizer import IncrementalDetokenizer
from vivace.text.pieces import piece_rules

if TYPE_CHECKING:
    from tokenizers import Tokenizer as RustTokenizer

# What a tokenizer is kept in where there is no tokenizer.json.
_OTHER_FORMATS = ("tokenizer.model", "spiece.model", "tekken.json", "vocab.json", "vocab.txt")


def load_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a checkpoint folder or a GGUF file, or None where it has none.

    Raises:
        CheckpointError: it is damaged, or of another format than tokenizer.json.
    """
    if is_gguf(folder):
        return _of_gguf(folder)
    path = folder / "tokenizer.json"
    if not path.exists():
        _refuse_other_formats(folder)
        return None
    from tokenizers import Tokenizer as RustTokenizer  # only now: most of a process' start

    try:
        rust = RustTokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"{path} cannot be read as a tokenizer: {error}.") from error
    return Tokenizer(rust, tokenizer_config(folder))


def tokenizer_config(folder: Path) -> dict[str, Any]:
    """`tokenizer_config.json` on top of `special_tokens_map.json`, or what a GGUF file says of the
    same; empty where nothing is there."""
    if is_gguf(folder):
        return gguf.tokenizer_config(read_metadata(folder))
    config: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = folder / name
        if path.exists():
            config |= _read_object(path)
    return config


def special_token(config: Mapping[str, Any], name: str) -> str | None:
    """The text of `bos_token` and the like, stored as a string or as an object."""
    token = config.get(name)
    return token.get("content") if isinstance(token, Mapping) else token


class Tokenizer:
    """A tokenizer. Safe to share between threads.

    `clean_up_tokenization_spaces` is left aside on purpose: it rewrites " ." to "." in the
    answer, which is wrong for code, and no streaming server applies it.
    """

    def __init__(self, rust: RustTokenizer, config: Mapping[str, Any] | None = None) -> None:
        config = config or {}
        rust.no_truncation()
        rust.no_padding()
        _add_missing_tokens(rust, config)
        self._rust = rust
        decoder = json.loads(rust.decoder.__getstate__()) if rust.decoder else None
        self._rules = piece_rules(decoder)
        self._special = {
            token_id for token_id, token in rust.get_added_tokens_decoder().items() if token.special
        }
        self._bytes: dict[int, bytes] = {}
        self._adds_bos: bool | None = config.get("add_bos_token")
        self.bos_token_id = self._id_of(special_token(config, "bos_token"))
        self.eos_token_id = self._id_of(special_token(config, "eos_token"))
        self.vocab_size: int = rust.get_vocab_size()
        self.leading_spaces = self._rules.lead

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids. Text that begins with the beginning-of-sequence token gets no second one.

        Raises:
            RequestError: the text holds half a surrogate pair, which no tokenizer can take.
        """
        adds = add_special_tokens and self._adds_bos is not False
        try:
            text.encode()
        except UnicodeEncodeError:
            raise RequestError(
                "The text is not valid Unicode: it holds a lone surrogate."
            ) from None
        ids: list[int] = self._rust.encode(text, add_special_tokens=adds).ids
        bos = self.bos_token_id
        if not adds or bos is None:
            return ids
        if self._adds_bos and ids[:1] != [bos]:
            return [bos, *ids]
        return ids[1:] if ids[:2] == [bos, bos] else ids

    def to_json(self) -> str:
        """All of it, as `tokenizer.json` would hold it."""
        return str(self._rust.to_str())

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of a whole sequence; unknown ids have none."""
        detokenizer = IncrementalDetokenizer(
            self, skip_special_tokens=skip_special_tokens, continues=False
        )
        return "".join(map(detokenizer.push, token_ids)) + detokenizer.flush()

    def token_text(self, token_id: int) -> str:
        """One token's own text, its leading space included; half a character reads U+FFFD."""
        return self.token_bytes(token_id).decode(errors="replace")

    def token_bytes(self, token_id: int, skip_special_tokens: bool = False) -> bytes:
        """The bytes that a token stands for; none for an unknown id or a skipped special one."""
        if skip_special_tokens and token_id in self._special:
            return b""
        piece = self._bytes.get(token_id)
        if piece is None:
            token = self._rust.id_to_token(token_id)
            piece = b"" if token is None else self._rules.piece(token)
            self._bytes[token_id] = piece
        return piece

    def _id_of(self, token: str | None) -> int | None:
        return None if token is None else self._rust.token_to_id(token)


def _of_gguf(path: Path) -> Tokenizer | None:
    metadata = read_metadata(path)
    described = gguf.tokenizer_json(path, metadata)
    if described is None:
        return None
    from tokenizers import Tokenizer as RustTokenizer

    try:
        rust = RustTokenizer.from_str(json.dumps(described))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"The tokenizer of {path} cannot be read: {error}.") from error
    return Tokenizer(rust, gguf.tokenizer_config(metadata))


def _add_missing_tokens(rust: RustTokenizer, config: Mapping[str, Any]) -> None:
    """Tokens that only `tokenizer_config.json` declares, in the order of their ids."""
    from tokenizers import AddedToken

    declared: Mapping[str, Mapping[str, Any]] = config.get("added_tokens_decoder") or {}
    for token_id in sorted(declared, key=int):
        fields = dict(declared[token_id])
        content = fields.pop("content")
        if rust.token_to_id(content) is not None:
            continue
        fields.pop("__type", None)
        rust.add_tokens([AddedToken(content, **fields)])
        if rust.token_to_id(content) != int(token_id):
            raise CheckpointError(
                f"tokenizer_config.json gives {content!r} the id {token_id}, which does not follow "
                "tokenizer.json; save the tokenizer again with AutoTokenizer(...).save_pretrained."
            )


def _refuse_other_formats(folder: Path) -> None:
    for name in _OTHER_FORMATS:
        if (folder / name).exists():
            raise CheckpointError(
                f"{folder} has {name} but no tokenizer.json; convert it once with Transformers: "
                f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})."
            )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object.")
    return value
