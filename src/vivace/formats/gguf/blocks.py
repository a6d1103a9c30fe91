"""How ggml's types store numbers: what is in a block of each, and the values that it stands for.

Values are computed in float32 in the order of ggml's own dequantization (ggml-quants.c), so that
they are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from vivace.formats.qtensor import Array

Bytes: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32]
Blocks: TypeAlias = NDArray[Any]  # [n] of a structured dtype

SUPER = 256  # values of a block of the K types


@dataclass(frozen=True)
class TensorType:
    """One of ggml's types.

    Attributes:
        block: what a block is in bytes; of a float type, the float itself.
        values: that a block stands for.
        decode: blocks [n] to float32 [n, values]; None where the block is the value.
    """

    name: str
    block: np.dtype[Any]
    values: int
    decode: Callable[[Blocks], Floats] | None

    def row_bytes(self, width: int) -> int:
        """Raises ValueError where rows of such a width have no whole blocks."""
        if width % self.values:
            raise ValueError(f"rows of {width} are no multiple of {self.name}'s {self.values}")
        return width // self.values * self.block.itemsize


def dequantize(rows: Bytes, kind: TensorType) -> Floats:
    """Rows of bytes [n, row_bytes] to their values [n, width], some rows at a time."""
    assert kind.decode is not None
    blocks = rows.view(kind.block)
    values = np.empty((len(blocks), blocks.shape[1] * kind.values), np.float32)
    step = max(_AT_ONCE // max(values.shape[1], 1), 1)
    with np.errstate(invalid="ignore", over="ignore"):  # scales may be anything
        for start in range(0, len(blocks), step):
            part = blocks[start : start + step]
            values[start : start + step] = kind.decode(part.reshape(-1)).reshape(len(part), -1)
    return values


def bit_planes(packed: Bytes, width: int, bits: int) -> Bytes:
    """Codes of 1, 2 or 4 bits, [n, bytes] to [n, bytes * 8 / bits]. Each run of `width` bytes holds
    as many codes in its lowest bits, then as many in the next ones."""
    runs = packed.reshape(len(packed), -1, 1, width)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    codes: Bytes = ((runs >> shifts) & np.uint8(2**bits - 1)).reshape(len(packed), -1)
    return codes


_AT_ONCE = 2**20  # values decoded together: their temporaries are many times as large


def _float(column: Array) -> Floats:
    """[n, 1]"""
    return column.astype(np.float32)[:, None]


def _grouped(codes: Array, groups: int) -> Array:
    """[n, groups, values of one]"""
    return codes.reshape(len(codes), groups, -1)


def _scaled(scales: Array, codes: Array) -> Floats:
    product: Floats = scales * codes
    return product


# --- blocks of 32 ---------------------------------------------------------------------------------


def _nibbles(blocks: Blocks) -> Bytes:
    return bit_planes(blocks["codes"], 16, 4)


def _fifth_bits(blocks: Blocks) -> Bytes:
    bits: Bytes = bit_planes(blocks["high"], 1, 1) << np.uint8(4)
    return bits


def _q4_0(blocks: Blocks) -> Floats:
    return _scaled(_float(blocks["d"]), _nibbles(blocks).view(np.int8) - np.int8(8))


def _q4_1(blocks: Blocks) -> Floats:
    return _scaled(_float(blocks["d"]), _nibbles(blocks)) + _float(blocks["m"])


def _q5_0(blocks: Blocks) -> Floats:
    codes = (_nibbles(blocks) | _fifth_bits(blocks)).view(np.int8) - np.int8(16)
    return _scaled(_float(blocks["d"]), codes)


def _q5_1(blocks: Blocks) -> Floats:
    codes = _nibbles(blocks) | _fifth_bits(blocks)
    return _scaled(_float(blocks["d"]), codes) + _float(blocks["m"])


def _plain(blocks: Blocks) -> Floats:
    """Q8_0 and Q8_K."""
    return _scaled(_float(blocks["d"]), blocks["codes"])


# --- blocks of 256, in groups with scales of their own --------------------------------------------


def _q2_k(blocks: Blocks) -> Floats:
    scales = _scaled(_float(blocks["d"]), blocks["scales"] & np.uint8(15))[..., None]
    lows = _scaled(_float(blocks["dmin"]), blocks["scales"] >> np.uint8(4))[..., None]
    return _scaled(scales, _grouped(bit_planes(blocks["codes"], 32, 2), 16)) - lows


def _q3_k(blocks: Blocks) -> Floats:
    low, high = blocks["scales"][:, :8], blocks["scales"][:, 8:]
    scales = bit_planes(low, 8, 4) | bit_planes(high, 4, 2) << np.uint8(4)
    spread = _scaled(_float(blocks["d"]), scales.view(np.int8) - np.int8(32))[..., None]
    # The third bit says that 4 is not taken away.
    without = (bit_planes(blocks["high"], 32, 1) ^ np.uint8(1)) << np.uint8(2)
    codes = bit_planes(blocks["codes"], 32, 2).view(np.int8) - without.view(np.int8)
    return _scaled(spread, _grouped(codes, 16))


def _scales_and_lows(blocks: Blocks) -> tuple[Floats, Floats]:
    """[n, 8, 1] each, of Q4_K and Q5_K. Six bits: the first four scales and lows have bytes of
    their own, whose upper two bits belong to the last four."""
    first, second, rest = np.moveaxis(blocks["scales"].reshape(-1, 3, 4), 1, 0)
    upper = np.uint8(0b110000)
    scales = [first & np.uint8(63), rest & np.uint8(15) | first >> np.uint8(2) & upper]
    lows = [second & np.uint8(63), rest >> np.uint8(4) | second >> np.uint8(2) & upper]
    d, dmin = _float(blocks["d"]), _float(blocks["dmin"])
    return _scaled(d, np.hstack(scales))[..., None], _scaled(dmin, np.hstack(lows))[..., None]


def _q4_k(blocks: Blocks) -> Floats:
    scales, lows = _scales_and_lows(blocks)
    return _scaled(scales, _grouped(bit_planes(blocks["codes"], 32, 4), 8)) - lows


def _q5_k(blocks: Blocks) -> Floats:
    scales, lows = _scales_and_lows(blocks)
    codes = bit_planes(blocks["codes"], 32, 4) | bit_planes(blocks["high"], 32, 1) << np.uint8(4)
    return _scaled(scales, _grouped(codes, 8)) - lows


def _q6_k(blocks: Blocks) -> Floats:
    codes = bit_planes(blocks["codes"], 64, 4) | bit_planes(blocks["high"], 32, 2) << np.uint8(4)
    spread = _scaled(_float(blocks["d"]), blocks["scales"])[..., None]
    return _scaled(spread, _grouped(codes.view(np.int8) - np.int8(32), 16))


# --- the table ------------------------------------------------------------------------------------

_HALF = "<f2"


def _blocks(
    name: str, values: int, decode: Callable[[Blocks], Floats], *fields: tuple[Any, ...]
) -> TensorType:
    return TensorType(name, np.dtype(list(fields)), values, decode)


def _floats(name: str, dtype: Any) -> TensorType:
    return TensorType(name, np.dtype(dtype), 1, None)


_D, _M, _DMIN = ("d", _HALF), ("m", _HALF), ("dmin", _HALF)
_CODES_32, _HIGH_32 = ("codes", "u1", 16), ("high", "u1", 4)
_SCALES = ("scales", "u1", 12)

# By ggml's number.
TYPES: dict[int, TensorType] = {
    0: _floats("F32", "<f4"),
    1: _floats("F16", "<f2"),
    30: _floats("BF16", ml_dtypes.bfloat16),
    2: _blocks("Q4_0", 32, _q4_0, _D, _CODES_32),
    3: _blocks("Q4_1", 32, _q4_1, _D, _M, _CODES_32),
    6: _blocks("Q5_0", 32, _q5_0, _D, _HIGH_32, _CODES_32),
    7: _blocks("Q5_1", 32, _q5_1, _D, _M, _HIGH_32, _CODES_32),
    8: _blocks("Q8_0", 32, _plain, _D, ("codes", "i1", 32)),
    10: _blocks("Q2_K", SUPER, _q2_k, ("scales", "u1", 16), ("codes", "u1", 64), _D, _DMIN),
    11: _blocks("Q3_K", SUPER, _q3_k, ("high", "u1", 32), ("codes", "u1", 64), _SCALES, _D),
    12: _blocks("Q4_K", SUPER, _q4_k, _D, _DMIN, _SCALES, ("codes", "u1", 128)),
    13: _blocks("Q5_K", SUPER, _q5_k, _D, _DMIN, _SCALES, ("high", "u1", 32), ("codes", "u1", 128)),
    14: _blocks(
        "Q6_K", SUPER, _q6_k, ("codes", "u1", 128), ("high", "u1", 64), ("scales", "i1", 16), _D
    ),
    15: _blocks("Q8_K", SUPER, _plain, ("d", "<f4"), ("codes", "i1", 256), ("sums", "<i2", 16)),
}

QUANTIZED = tuple(kind.name for kind in TYPES.values() if kind.decode is not None)

# Named in errors: the codebooks of I-quants, and what no weight is kept in.
UNSUPPORTED: dict[int, str] = {
    9: "Q8_1",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
    40: "NVFP4",
}
