"""A tokenizer for models that are functions of bytes."""

from __future__ import annotations

VOCAB, START = 257, 256


class Bytes:
    """A token for each byte, after a start token."""

    def encode(self, text: str) -> list[int]:
        return [START, *text.encode()]

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id])
