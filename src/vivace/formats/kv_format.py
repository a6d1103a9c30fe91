"""How packed KV pages are stored: KIVI (Liu et al., ICML 2024), keys per channel and values per
token.

A packed page is one block of 32 tokens. Per KV head of d values it holds, one after another and
padded to a multiple of 64 bytes:

    key codes     bytes [d][32], or nibbles [d][16 bytes]
    value codes   bytes [32][d32], or nibbles [32][d32 / 2 bytes]
    key scales    bfloat16 [d]: a channel's 32 tokens share one
    value scales  bfloat16 [32][groups]: so do a token's channels, or each 32 of them
    key zeros     int8 [d], of nibbles alone

with d32 the head size padded to 32 by codes of zero. A byte of nibbles holds codes i (low) and
i + 16 (high) of a run of 32: sixteen bytes are two vectors. Codes are unsigned: a value is
(code - 128) * scale, or of nibbles (code - 8) * scale; a key of nibbles is (code + zero) * scale.

Only what is before a row's own block is seen packed. That block is seen as it was computed, from
plain pages of a group that gives them back once a block is full: KIVI's recent window, of 1 to 32
tokens. So a prefix that ends with a full block needs no pages but packed ones. (With a window of
one block more, a shared prefix would be lost with its last plain page.)

Bits per value at head sizes 64 and 128: int8 8.38 and 8.31; int4 4.63 both. With the block in
bfloat16, a context of 4,096 takes 1.88 and 1.90, and 3.37, times less than bfloat16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

KV_BLOCK_TOKENS = 32
VALUE_GROUP = 32  # channels of an int4 value that share a scale
MIDDLE_CODE = {8: 128, 4: 8}  # the code of zero, by bits, in groups without a zero point
_LINE = 64


@dataclass(frozen=True)
class KVFormat:
    """How packed pages are kept."""

    name: Literal["int8", "int4"]
    bits: Literal[8, 4]


INT8_KV = KVFormat("int8", 8)
INT4_KV = KVFormat("int4", 4)
KV_FORMATS: dict[str, KVFormat] = {format.name: format for format in (INT8_KV, INT4_KV)}


@dataclass(frozen=True)
class HeadLayout:
    """Bytes of one head's block: where each part stands, and all of them."""

    key_codes: slice
    value_codes: slice
    key_scales: slice
    value_scales: slice
    key_zeros: slice
    num_bytes: int


def value_width(head_dim: int) -> int:
    """Codes of one token's values, padding included."""
    return -(-head_dim // VALUE_GROUP) * VALUE_GROUP


def value_groups(format: KVFormat, head_dim: int) -> int:
    """Scales of one token's values."""
    return 1 if format.bits == 8 else value_width(head_dim) // VALUE_GROUP


def head_layout(format: KVFormat, head_dim: int) -> HeadLayout:
    sizes = (
        KV_BLOCK_TOKENS * head_dim * format.bits // 8,
        KV_BLOCK_TOKENS * value_width(head_dim) * format.bits // 8,
        2 * head_dim,
        2 * KV_BLOCK_TOKENS * value_groups(format, head_dim),
        0 if format.bits == 8 else head_dim,
    )
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    keys, values, key_scales, value_scales, key_zeros = (
        slice(end - size, end) for end, size in zip(ends, sizes, strict=True)
    )
    num_bytes = -(-ends[-1] // _LINE) * _LINE
    return HeadLayout(keys, values, key_scales, value_scales, key_zeros, num_bytes)


def page_bytes(format: KVFormat, num_kv_heads: int, head_dim: int) -> int:
    """Bytes of one packed page of one layer."""
    return num_kv_heads * head_layout(format, head_dim).num_bytes
