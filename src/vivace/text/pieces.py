"""What bytes a token stands for, from the decoder that a `tokenizer.json` declares.

An answer's text is the UTF-8 reading of its tokens' bytes one after another; that is what lets it
be streamed at a constant cost per token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vivace.core.errors import CheckpointError

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class PieceRules:
    """How a token's string becomes bytes.

    Attributes:
        encoding: "byte_level" writes each byte as one printable character (GPT-2),
            "byte_fallback" writes a byte as the token <0xXX> (SentencePiece).
        replacements: applied in order to tokens that are not bytes.
        prefix: put before every token (decoders that join with spaces).
        lead: this many leading spaces of a whole text are not part of it.
    """

    encoding: Literal["utf8", "byte_level", "byte_fallback"] = "utf8"
    replacements: tuple[tuple[str, str], ...] = ()
    prefix: str = ""
    lead: int = 0

    def piece(self, token: str) -> bytes:
        """The bytes of one token of the vocabulary, given as the vocabulary writes it."""
        if self.encoding == "byte_level":
            return _from_byte_level(token)
        if self.encoding == "byte_fallback" and (match := _BYTE_TOKEN.fullmatch(token)):
            return bytes.fromhex(match[1])
        for old, new in self.replacements:
            token = token.replace(old, new)
        return (self.prefix + token).encode()


def piece_rules(decoder: Mapping[str, Any] | None) -> PieceRules:
    """The rules of a `decoder` section; raises CheckpointError for one that is not known."""
    if decoder is None:
        return PieceRules(prefix=" ", lead=1)
    encoding: Literal["utf8", "byte_level", "byte_fallback"] = "utf8"
    replacements: list[tuple[str, str]] = []
    lead, fused = 0, False
    for part in _flatten(decoder):
        match part:
            case {"type": "ByteLevel"}:
                encoding = "byte_level"
            case {"type": "ByteFallback"}:
                encoding = "byte_fallback"
            case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)}:
                replacements.append((old, new))
            case {"type": "Metaspace", "replacement": str(old)}:
                replacements.append((old, " "))
                lead = 0 if part.get("prepend_scheme") == "never" else 1
            case {"type": "Fuse"}:
                fused = True
            case {"type": "Strip", "content": " ", "start": int(start), "stop": 0} if fused:
                lead = start
            case _:
                raise _unsupported(part.get("type"))
    if encoding == "byte_level" and replacements:
        raise _unsupported("ByteLevel with replacements")
    return PieceRules(encoding, tuple(replacements), lead=lead)


def _unsupported(kind: object) -> CheckpointError:
    return CheckpointError(
        f"The decoder {kind!r} of tokenizer.json is not supported; "
        "save the tokenizer with a ByteLevel, ByteFallback or Metaspace decoder."
    )


def _flatten(decoder: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if decoder.get("type") != "Sequence":
        yield decoder
        return
    for part in decoder["decoders"]:
        yield from _flatten(part)


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's: printable Latin-1 characters stand for themselves, other bytes for 256 and up."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printable += range(ord("®"), ord("ÿ") + 1)
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _byte_level_alphabet()


def _from_byte_level(token: str) -> bytes:
    """A token with any character outside the alphabet was added as plain text."""
    try:
        return bytes([_BYTE_OF[character] for character in token])
    except KeyError:
        return token.encode()
