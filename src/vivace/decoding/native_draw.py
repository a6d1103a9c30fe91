"""Drawing with native kernels: the same tokens as `draw`, without sorting a vocabulary."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeAlias

from vivace.decoding.adjust import Row
from vivace.decoding.draw import Limits, draw

Draw: TypeAlias = Callable[[Row, Limits, float], int]


def fastest_draw() -> Draw:
    """`draw` by the native kernels where they were built, or else by numpy."""
    try:
        from vivace.backends.cpu._native import RowSampler
    except ImportError:
        return draw
    sampler = RowSampler(os.environ.get("VIVACE_ISA", ""))

    def native_draw(logits: Row, limits: Limits, uniform: float) -> int:
        return sampler.draw(
            logits,
            limits.best,
            limits.inverse_temperature,
            limits.least,
            limits.count,
            limits.top_p,
            uniform,
        )

    return native_draw
