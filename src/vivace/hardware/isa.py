"""The levels of the native kernels, and which of them a processor has."""

from __future__ import annotations

import re

# Lowest first; of x86 and of AArch64.
_LEVELS = (("portable", "avx2", "avx512", "avx512bf16", "amx"), ("portable", "neon"))

# Flags (features, on AArch64) as /proc/cpuinfo names them; each level needs those before it too.
_FLAGS = {
    "avx2": {"avx2", "fma", "f16c"},
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"},
    "avx512bf16": {"avx512_bf16"},
    "amx": {"amx_tile", "amx_bf16"},
    "neon": {"asimddp"},
}


def isa_level(cpuinfo: str) -> str:
    """The level to use of those whose flags /proc/cpuinfo lists: the highest, but avx512 on an
    Intel processor without tiles, whose bfloat16 dot products are slower than floats."""
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    flags = set(line[1].split()) if line else set()
    highest = "portable"
    for levels in _LEVELS:
        for level in levels[1:]:
            if not flags >= _FLAGS[level]:
                break
            highest = level
    if highest == "avx512bf16" and re.search(
        r"^vendor_id\s*:\s*GenuineIntel", cpuinfo, re.MULTILINE
    ):
        return "avx512"
    return highest


def levels_up_to(highest: str) -> tuple[str, ...]:
    """A level and all below it."""
    levels = next(levels for levels in _LEVELS if highest in levels)
    return levels[: levels.index(highest) + 1]
