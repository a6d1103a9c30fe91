"""Codes of a few bits in words of 32."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivace.formats.qtensor import Array

Codes: TypeAlias = NDArray[np.uint8]

WORD_BITS = 32


def pack_stream(codes: Codes, bits: int) -> NDArray[np.int32]:
    """Codes [rows, n] bit after bit, the first in the lowest bits: words [rows, n * bits / 32],
    rounded up. Codes of 3 bits stand across words."""
    fields = np.unpackbits(codes[..., None], axis=2, count=bits, bitorder="little")
    stream = fields.reshape(len(codes), -1)
    padded = np.pad(stream, ((0, 0), (0, -stream.shape[1] % WORD_BITS)))
    packed = np.packbits(padded, axis=1, bitorder="little")
    return packed.view(np.int32)


def unpack_stream(words: Array, bits: int, count: int) -> Codes:
    """The inverse: the first `count` codes of each row."""
    if WORD_BITS % bits == 0:
        return unpack_words(words, bits)[:, :count]
    stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1, bitorder="little")
    fields = stream[:, : count * bits].reshape(len(words), count, bits)
    codes: Codes = fields @ (1 << np.arange(bits)).astype(np.uint8)
    return codes


def unpack_words(words: Array, bits: int) -> Codes:
    """Words [rows, n] to codes [rows, n * (32 // bits)], none of which stands across two words."""
    shifts = np.arange(WORD_BITS // bits, dtype=np.uint32) * np.uint32(bits)
    fields = words.view(np.uint32)[..., None] >> shifts & np.uint32(2**bits - 1)
    codes: Codes = fields.astype(np.uint8).reshape(len(words), -1)
    return codes
