"""What the reference backend keeps of weights and pages: plain float32 arrays."""

from __future__ import annotations

from dataclasses import dataclass

from vivace.backends.reference.steps import Floats
from vivace.core.collective import Collective


@dataclass(frozen=True)
class ReferenceLinear:
    """weight [out, in], bias [out] or None."""

    weight: Floats
    bias: Floats | None
    collective: Collective | None


@dataclass(frozen=True)
class ReferenceRotary:
    """cos and sin, [max_positions, dim/2] each."""

    cos: Floats
    sin: Floats


@dataclass(frozen=True)
class ReferencePages:
    """keys and values, [layers, pages, PAGE_TOKENS, kv_heads, head_dim] each."""

    keys: Floats
    values: Floats
