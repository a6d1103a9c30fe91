"""Numbers into blocks of ggml's types: the way back from `blocks`.

Within a group every value is step * code - low. In the flat types a group is a block, with its step
(and low) as float16; in the K types a block of 256 has one float16 step and low for its groups,
each of which multiplies them by small integers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivace.formats.gguf.blocks import TYPES, Blocks, Bytes, TensorType

Floats: TypeAlias = NDArray[np.float32]
Integers: TypeAlias = NDArray[np.int16]
Write: TypeAlias = Callable[[Blocks, Bytes], None]  # unsigned codes [blocks, values]


@dataclass(frozen=True)
class GroupedType:
    """What a type can hold.

    Attributes:
        group: values that share a step.
        codes: the least and the greatest one.
        offset: added to codes before they are stored.
        has_lows: whether something is taken away from step * code.
        factors: the least and the greatest integer that a group multiplies its block's step by, and
            where there are lows, its block's low; None where a block is one group.
    """

    tensor_type: TensorType
    group: int
    codes: tuple[int, int]
    offset: int
    has_lows: bool
    factors: tuple[int, int] | None
    write: Write

    @property
    def block(self) -> int:
        """Values of a block."""
        return self.tensor_type.values


@dataclass(frozen=True)
class BlockGrid:
    """The steps that each group of a matrix is rounded in, as they are stored.

    Attributes:
        steps, lows: [out, blocks], values of float16; lows are zero where the type has none.
        step_factors, low_factors: [out, groups]; ones where a block is one group.
    """

    kind: GroupedType
    steps: Floats
    lows: Floats
    step_factors: Integers
    low_factors: Integers

    def of_groups(self) -> tuple[Floats, Floats]:
        """The step and the low of each group, [out, groups], as reading computes them."""
        each = self.step_factors.shape[1] // self.steps.shape[1]
        steps: Floats = np.repeat(self.steps, each, axis=1) * self.step_factors
        lows: Floats = np.repeat(self.lows, each, axis=1) * self.low_factors
        return steps, lows


def encode(grid: BlockGrid, codes: Integers) -> Bytes:
    """Codes [out, in] on a grid as rows of blocks, [out, row bytes]."""
    kind = grid.kind
    blocks = np.zeros(grid.steps.size, kind.tensor_type.block)
    fields = blocks.dtype.names or ()
    blocks["d"] = grid.steps.reshape(-1)
    if "m" in fields:  # added, where the others' lows are taken away
        blocks["m"] = -grid.lows.reshape(-1)
    if "dmin" in fields:
        blocks["dmin"] = grid.lows.reshape(-1)
    if kind.factors is not None:
        _write_factors(blocks, grid)
    kind.write(blocks, (codes + kind.offset).astype(np.uint8).reshape(len(blocks), -1))
    return blocks.view(np.uint8).reshape(len(codes), -1)


def pack_planes(codes: Bytes, width: int, bits: int) -> Bytes:
    """The way back from `bit_planes`: [n, codes] to [n, codes * bits / 8]."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    planes = codes.reshape(len(codes), -1, 8 // bits, width) << shifts
    packed: Bytes = np.bitwise_or.reduce(planes, axis=2).reshape(len(codes), -1)
    return packed


def _codes_4(blocks: Blocks, codes: Bytes) -> None:
    blocks["codes"] = pack_planes(codes, 16, 4)


def _codes_5(blocks: Blocks, codes: Bytes) -> None:
    blocks["codes"] = pack_planes(codes & np.uint8(15), 16, 4)
    blocks["high"] = pack_planes(codes >> np.uint8(4), 1, 1)


def _codes_8(blocks: Blocks, codes: Bytes) -> None:
    blocks["codes"] = codes.view(np.int8)


def _codes_4_k(blocks: Blocks, codes: Bytes) -> None:
    blocks["codes"] = pack_planes(codes, 32, 4)


def _codes_5_k(blocks: Blocks, codes: Bytes) -> None:
    blocks["codes"] = pack_planes(codes & np.uint8(15), 32, 4)
    blocks["high"] = pack_planes(codes >> np.uint8(4), 32, 1)


def _codes_6_k(blocks: Blocks, codes: Bytes) -> None:
    blocks["codes"] = pack_planes(codes & np.uint8(15), 64, 4)
    blocks["high"] = pack_planes(codes >> np.uint8(4), 32, 2)


def _write_factors(blocks: Blocks, grid: BlockGrid) -> None:
    steps = grid.step_factors.reshape(len(blocks), -1)
    if not grid.kind.has_lows:
        blocks["scales"] = steps
        return
    lows = grid.low_factors.reshape(len(blocks), -1)
    first, second = (part.astype(np.uint8) for part in (steps, lows))
    four, two = np.uint8(4), np.uint8(6)
    blocks["scales"] = np.hstack(
        [
            first[:, :4] | first[:, 4:] >> four << two,
            second[:, :4] | second[:, 4:] >> four << two,
            first[:, 4:] & np.uint8(15) | second[:, 4:] << four,
        ]
    )


_BY_NAME = {kind.name: kind for kind in TYPES.values()}


def _flat(name: str, codes: tuple[int, int], offset: int, write: Write) -> GroupedType:
    kind = _BY_NAME[name]
    return GroupedType(
        kind, kind.values, codes, offset, "m" in (kind.block.names or ()), None, write
    )


def _super(
    name: str, group: int, codes: tuple[int, int], factors: tuple[int, int], write: Write
) -> GroupedType:
    return GroupedType(_BY_NAME[name], group, codes, -codes[0], codes[0] == 0, factors, write)


GROUPED: dict[str, GroupedType] = {
    "Q4_0": _flat("Q4_0", (-8, 7), 8, _codes_4),
    "Q5_0": _flat("Q5_0", (-16, 15), 16, _codes_5),
    "Q5_1": _flat("Q5_1", (0, 31), 0, _codes_5),
    "Q8_0": _flat("Q8_0", (-127, 127), 0, _codes_8),
    "Q4_K": _super("Q4_K", 32, (0, 15), (0, 63), _codes_4_k),
    "Q5_K": _super("Q5_K", 32, (0, 31), (0, 63), _codes_5_k),
    "Q6_K": _super("Q6_K", 16, (-32, 31), (-128, 127), _codes_6_k),
}
