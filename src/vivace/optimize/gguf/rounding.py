"""A matrix into blocks of one of ggml's types."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vivace.formats.gguf.blocks import Bytes, TensorType
from vivace.formats.gguf.encode import GROUPED, BlockGrid, encode
from vivace.formats.qtensor import Scheme
from vivace.optimize.gguf.search import fit_blocks
from vivace.optimize.observe import Floats
from vivace.optimize.quantize.gptq import gptq
from vivace.optimize.quantize.grid import Grid


@dataclass(frozen=True)
class Inputs:
    """What goes into a linear.

    Attributes:
        gram: X'X [in, in].
        spreads: whether each column's error is made up for by those that are still free (GPTQ);
            else inputs only say how much an error weighs.
    """

    gram: Floats
    spreads: bool


def to_rows(values: Floats, kind: TensorType, inputs: Inputs | None = None) -> Bytes:
    """[out, in] to [out, row bytes].

    Args:
        inputs: None lets every error weigh the same.
    """
    if kind.decode is None:
        rows: Bytes = values.astype(kind.block).view(np.uint8)
        return rows
    grouped = GROUPED[kind.name]
    grid = fit_blocks(values, _weights(values, inputs), grouped)
    steps, shifted = on_steps(values, grid)
    if inputs is not None and inputs.spreads:
        return encode(grid, gptq(shifted, inputs.gram, steps).codes)
    return encode(grid, steps.round(shifted).codes)


def on_steps(values: Floats, grid: BlockGrid) -> tuple[Grid, Floats]:
    """A grid of steps alone, and the values with lows added: what is left to round."""
    kind, (steps, lows) = grid.kind, grid.of_groups()
    bits = (kind.codes[1] - kind.codes[0]).bit_length()
    scheme = Scheme(kind.tensor_type.name, bits, kind.group, zero_points=kind.has_lows)
    return Grid(scheme, steps, np.zeros_like(steps)), values + np.repeat(lows, kind.group, axis=1)


def _weights(values: Floats, inputs: Inputs | None) -> Floats:
    if inputs is None:
        return np.ones((1, values.shape[1]), np.float32)
    powers = np.diag(inputs.gram)
    weights: Floats = (powers / max(float(powers.mean()), 1e-30))[None].astype(np.float32)
    return weights
