"""Codes of a few bits in words of 32."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivace.formats.qtensor import Array

Codes: TypeAlias = NDArray[np.uint8]

WORD_BITS = 32


def unpack_words(words: Array, bits: int) -> Codes:
    """Words [rows, n] to codes [rows, n * (32 // bits)]: the first code of a word in its lowest
    bits, none across two words."""
    shifts = np.arange(WORD_BITS // bits, dtype=np.uint32) * np.uint32(bits)
    fields = words.view(np.uint32)[..., None] >> shifts & np.uint32(2**bits - 1)
    codes: Codes = fields.astype(np.uint8).reshape(len(words), -1)
    return codes


def pack_words(codes: Codes, bits: int) -> NDArray[np.int32]:
    """The inverse of `unpack_words`; zeros fill up the last word of a row."""
    each = WORD_BITS // bits
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % each))).astype(np.uint32)
    shifts = np.arange(each, dtype=np.uint32) * np.uint32(bits)
    fields = padded.reshape(len(codes), -1, each) << shifts
    packed: NDArray[np.uint32] = np.bitwise_or.reduce(fields, axis=2)
    return packed.view(np.int32)


def unpack_stream(words: Array, bits: int) -> Codes:
    """Words [rows, n] to codes [rows, n * 32 // bits] that stand bit after bit, across words."""
    stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1, bitorder="little")
    fields = stream.reshape(len(words), -1, bits)
    codes: Codes = fields @ (1 << np.arange(bits)).astype(np.uint8)
    return codes
