"""Small matrices and inputs to quantize."""

from __future__ import annotations

import numpy as np

from vivace.formats.qtensor import Scheme
from vivace.optimize.quantize.grid import Floats


def scheme(bits: int, group_size: int | None = 16, zero_points: bool = False) -> Scheme:
    return Scheme(f"int{bits}", bits, group_size, zero_points)


def matrix(outputs: int, inputs: int, seed: int = 0) -> Floats:
    """With a few large weights, as trained ones have."""
    rng = np.random.default_rng(seed)
    return (rng.standard_t(4, (outputs, inputs)) * 0.05).astype(np.float32)


def activations(rows: int, inputs: int, seed: int = 1) -> Floats:
    """Correlated, and some inputs ten times as large as others."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((rows, inputs)) @ rng.standard_normal((inputs, inputs))
    sizes = np.where(rng.random(inputs) < 0.1, 10, 1)
    return (mixed / np.sqrt(inputs) * sizes).astype(np.float32)


def gram_of(x: Floats) -> Floats:
    product: Floats = x.T @ x
    return product
