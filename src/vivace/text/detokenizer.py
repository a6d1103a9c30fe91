"""Tokens to text as they come, whole characters only."""

from __future__ import annotations

import codecs
from typing import Protocol


class TokenBytes(Protocol):
    """What a detokenizer needs of a tokenizer."""

    @property
    def leading_spaces(self) -> int:
        """How many leading spaces of a whole text are an artefact of its encoding."""
        ...

    def token_bytes(self, token_id: int, skip_special_tokens: bool = False) -> bytes:
        """The bytes that a token stands for; none for an unknown id or a skipped one."""
        ...


class IncrementalDetokenizer:
    """One text, token by token, at a constant cost per token.

    All that `push` and `flush` gave, concatenated, is the UTF-8 reading of the tokens' bytes;
    invalid bytes read as U+FFFD, one for each maximal invalid part, as the Unicode standard
    recommends. A character is given out once its last byte is there.

    Args:
        continues: the text continues a prompt, so that a leading space belongs to it.
    """

    def __init__(
        self, tokenizer: TokenBytes, *, skip_special_tokens: bool = True, continues: bool = True
    ) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._spaces_to_drop = 0 if continues else tokenizer.leading_spaces
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The characters that this token completes."""
        return self._trim(self._utf8.decode(self._tokenizer.token_bytes(token_id, self._skip)))

    def flush(self) -> str:
        """What an unfinished character reads as; the text ends here."""
        return self._trim(self._utf8.decode(b"", final=True))

    def _trim(self, text: str) -> str:
        """Drop the leading spaces of the whole text: they may come in several tokens."""
        while self._spaces_to_drop and text:
            if text[0] != " ":
                self._spaces_to_drop = 0
                break
            text = text[1:]
            self._spaces_to_drop -= 1
        return text
