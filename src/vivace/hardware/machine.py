"""What this machine lets this process use: cores, memory, caches, instruction set."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from vivace.hardware.isa import isa_level

_ROOT = Path("/")
_MEMINFO_LINE = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


@dataclass(frozen=True)
class Cache:
    """One level of data cache as one core sees it."""

    level: int
    bytes: int


@dataclass(frozen=True)
class Machine:
    """Attributes:
    isa: the level of the native kernels that is fastest on the processor.
    cores: how many cores' worth of time this process may use.
    memory_total: memory this process may ever use.
    memory_available: memory it could take now.
    caches: data caches, nearest first.
    """

    isa: str
    cores: int
    memory_total: int
    memory_available: int
    caches: tuple[Cache, ...]


def detect() -> Machine:
    """Read the machine as it is now; control groups count."""
    total, available = memory_limits(_ROOT)
    return Machine(
        isa=isa_level(_read(_ROOT / "proc/cpuinfo")),
        cores=usable_cores(),
        memory_total=total,
        memory_available=available,
        caches=data_caches(_ROOT),
    )


def usable_cores() -> int:
    """Cores of this process's affinity, cut to its control groups' quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, cpu_quota(_ROOT))))


def cpu_quota(root: Path) -> float:
    """Cores' worth of time that the control groups (v2 or v1) grant; infinity without a limit."""
    quotas = [math.inf]
    for folder in _group_folders(root, "cpu"):
        limit = _read(folder / "cpu.max").split()
        if not limit:
            limit = [_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        quotas.append(_quota_of(limit))
    return min(quotas)


def memory_limits(root: Path) -> tuple[int, int]:
    """Total and available bytes, cut to the control groups' limits."""
    info = {
        name: 1024 * int(kib) for name, kib in _MEMINFO_LINE.findall(_read(root / "proc/meminfo"))
    }
    total = info.get("MemTotal", 0)
    available = info.get("MemAvailable", info.get("MemFree", total))
    for folder in _group_folders(root, "memory"):
        limit = _number(folder, "memory.max", "memory.limit_in_bytes")
        if limit is None:
            continue
        total = min(total, limit)
        available = min(available, max(0, limit - _group_usage(folder)))
    return total, available


def data_caches(root: Path) -> tuple[Cache, ...]:
    """The data caches of the first core."""
    found = []
    for folder in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        size = re.fullmatch(r"(\d+)([KMG])", _read(folder / "size").strip())
        level = _read(folder / "level").strip()
        if size and level and _read(folder / "type").strip() != "Instruction":
            found.append(Cache(int(level), int(size[1]) * _UNITS[size[2]]))
    return tuple(sorted(found, key=lambda cache: cache.level))


def _quota_of(limit: list[str]) -> float:
    """[quota, period] in microseconds; "max" and negative quotas are no limit."""
    if len(limit) != 2 or not all(re.fullmatch(r"\d+", value) for value in limit):
        return math.inf
    quota, period = (int(value) for value in limit)
    return quota / period if period else math.inf


def _group_folders(root: Path, controller: str) -> list[Path]:
    """This process's control group and all above it, as v2 or v1 mounts them."""
    mounts = {"": root / "sys/fs/cgroup", controller: root / "sys/fs/cgroup" / controller}
    folders = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        matching = controller if controller in controllers.split(",") else controllers
        if matching not in mounts:
            continue
        mount = mounts[matching]
        inner = mount / path.lstrip("/")
        folders += [mount] + [
            folder for folder in (inner, *inner.parents) if mount in folder.parents
        ]
    return folders


def _group_usage(folder: Path) -> int:
    """Bytes the group holds, less file pages that it gives back when asked."""
    usage = _number(folder, "memory.current", "memory.usage_in_bytes") or 0
    reclaimable = re.search(
        r"^(?:total_)?inactive_file (\d+)$", _read(folder / "memory.stat"), re.M
    )
    return usage - (int(reclaimable[1]) if reclaimable else 0)


def _number(folder: Path, *names: str) -> int | None:
    """The number in the first of the files that holds one."""
    for name in names:
        text = _read(folder / name).strip()
        if text.isdigit():
            return int(text)
    return None


def _read(path: Path) -> str:
    """A file's text; empty where there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""
