"""Drawing with native kernels: the same tokens as `draw`, without sorting a vocabulary."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeAlias

from vivace.core.errors import BackendError
from vivace.decoding.adjust import Row
from vivace.decoding.draw import Limits, draw

Draw: TypeAlias = Callable[[Row, Limits, float], int]


def fastest_draw() -> Draw:
    """`draw` by the native kernels where they were built, or else by numpy.

    Raises:
        BackendError: VIVACE_ISA names no level of this machine, or the native code is an older one.
    """
    try:
        from vivace.backends.cpu import _native
    except ImportError:
        return draw
    try:
        sampler = _native.RowSampler(os.environ.get("VIVACE_ISA", ""))
    except ValueError as error:
        raise BackendError(str(error)) from None
    except AttributeError as error:
        raise BackendError(
            f"vivace's native code is of another version: build it again ({error})."
        ) from None

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
