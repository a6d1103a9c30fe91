"""Words that an answer must not spell, as vLLM's `bad_words`."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

_REMEMBERED = 256  # lists of words, each of a request that may still run

Encode: TypeAlias = Callable[[str], list[int]]  # a text's token ids, special tokens left out


class BadWords:
    """Knows which token would complete a word. It is a function of the words and the output alone;
    what it remembers only saves time.

    Args:
        encode: None where the model has no tokenizer; words are then refused on admission.
    """

    def __init__(self, encode: Encode | None) -> None:
        self._encode = encode
        self._written = lru_cache(_REMEMBERED)(self._write)

    def banned(self, words: tuple[str, ...], output: list[int]) -> list[int]:
        """Tokens of which each would end one of the words, if the output went on with it."""
        return [
            last
            for *beginning, last in self._written(words)
            if not beginning or output[-len(beginning) :] == beginning
        ]

    def _write(self, words: tuple[str, ...]) -> tuple[list[int], ...]:
        """Each word's tokens, as it stands at the beginning of a text and behind a space: most
        tokenizers write the two differently."""
        assert self._encode is not None
        texts = [text for word in words for text in (word.strip(), f" {word.strip()}")]
        return tuple(ids for ids in map(self._encode, texts) if ids)
