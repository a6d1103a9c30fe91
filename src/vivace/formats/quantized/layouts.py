"""How each tool lays out a quantized matrix [out, in]: its codes, scales, zero points and groups.

w = scale * (code - zero point) with codes from 0 up, whatever a tool adds or takes away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivace.formats.qtensor import Array
from vivace.formats.quantized.words import WORD_BITS, Codes, unpack_stream, unpack_words

Parts: TypeAlias = Mapping[str, Array]  # a matrix' tensors by the last part of their names


@dataclass(frozen=True)
class Rounding:
    """How a matrix was rounded.

    Attributes:
        group_size: inputs that share a scale; None is the whole row.
        activation_bits: 8 where each row of activations is rounded too as it comes.
        zero_offset: what zero points are stored less (GPTQ's first format).
    """

    bits: int
    group_size: int | None
    symmetric: bool
    activation_bits: int | None = None
    zero_offset: int = 0

    @property
    def middle(self) -> int:
        """The zero point of a symmetric grid."""
        return 1 << (self.bits - 1)


@dataclass(frozen=True)
class Steps:
    """What is small of a matrix.

    Attributes:
        scales: [out, groups], in the floats that they are stored in.
        zeros: [out, groups].
        group_of: [in], the group of each input, where groups are no runs of inputs; else None.
    """

    scales: Array
    zeros: NDArray[np.int16]
    group_of: Array | None = None


@dataclass(frozen=True)
class Layout:
    """Attributes:
    needed: a matrix' tensors; it is known by the first one, the codes.
    optional: those that may stand beside them.
    shape: (out, in).
    steps: the small tensors alone are read.
    codes: [out, in].
    """

    needed: tuple[str, ...]
    optional: tuple[str, ...]
    shape: Callable[[Parts, Rounding], tuple[int, int]]
    steps: Callable[[Parts, Rounding], Steps]
    codes: Callable[[Parts, Rounding], Codes]


def _packed_shape(parts: Parts, rounding: Rounding) -> tuple[int, int]:
    rows, width = (int(size) for size in parts["weight_shape"])
    return rows, width


def _packed_steps(parts: Parts, rounding: Rounding) -> Steps:
    scales = parts["weight_scale"]
    zeros = np.full(scales.shape, rounding.middle, np.uint8)
    if not rounding.symmetric:
        stored = np.ascontiguousarray(parts["weight_zero_point"].T)
        zeros = _packed(stored, rounding.bits, len(scales)).T
    return Steps(scales, zeros.astype(np.int16), _scattered(parts.get("weight_g_idx"), rounding))


def _packed_codes(parts: Parts, rounding: Rounding) -> Codes:
    return _packed(parts["weight_packed"], rounding.bits, int(parts["weight_shape"][1]))


def _packed(words: Array, bits: int, count: int) -> Codes:
    """Up to compressed-tensors 0.17 no code of 3 bits stood across words: ten in each."""
    if words.shape[1] == -(-count * bits // WORD_BITS):
        return unpack_stream(words, bits, count)
    return unpack_words(words, bits)[:, :count]


def _gptq_shape(parts: Parts, rounding: Rounding) -> tuple[int, int]:
    words, rows = parts["qweight"].shape
    return rows, words * WORD_BITS // rounding.bits


def _gptq_steps(parts: Parts, rounding: Rounding) -> Steps:
    zeros = _unpack(parts["qzeros"], rounding.bits).astype(np.int16) + rounding.zero_offset
    return Steps(parts["scales"].T, zeros.T, _scattered(parts.get("g_idx"), rounding))


def _gptq_codes(parts: Parts, rounding: Rounding) -> Codes:
    return _unpack(np.ascontiguousarray(parts["qweight"].T), rounding.bits)


_AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)  # which nibble of its word each output stands in


def _awq_shape(parts: Parts, rounding: Rounding) -> tuple[int, int]:
    width, words = parts["qweight"].shape
    return words * len(_AWQ_ORDER), width


def _awq_steps(parts: Parts, rounding: Rounding) -> Steps:
    return Steps(parts["scales"].T, _awq_unpack(parts["qzeros"]).astype(np.int16))


def _awq_codes(parts: Parts, rounding: Rounding) -> Codes:
    return _awq_unpack(parts["qweight"])


def _awq_unpack(words: Array) -> Codes:
    nibbles = unpack_words(words, 4).reshape(len(words), -1, len(_AWQ_ORDER))
    codes: Codes = nibbles[..., _AWQ_ORDER].reshape(len(words), -1).T
    return codes


def _unpack(words: Array, bits: int) -> Codes:
    return unpack_stream(words, bits, words.shape[1] * WORD_BITS // bits)


def _scattered(group_of: Array | None, rounding: Rounding) -> Array | None:
    """None where each group is a run of inputs after all."""
    if group_of is None or rounding.group_size is None:
        return None
    runs = np.arange(len(group_of)) // rounding.group_size
    return None if np.array_equal(group_of, runs) else group_of


PACK_QUANTIZED = Layout(
    ("weight_packed", "weight_scale", "weight_shape"),
    ("weight_zero_point", "weight_g_idx"),
    _packed_shape,
    _packed_steps,
    _packed_codes,
)
_WORDS = ("qweight", "qzeros", "scales")
GPTQ = Layout(_WORDS, ("g_idx",), _gptq_shape, _gptq_steps, _gptq_codes)
AWQ = Layout(_WORDS, (), _awq_shape, _awq_steps, _awq_codes)
