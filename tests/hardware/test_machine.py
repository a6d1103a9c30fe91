"""What a machine is, read from fake /proc and /sys trees."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from vivace.hardware.isa import isa_level, levels_up_to
from vivace.hardware.machine import (
    Cache,
    cpu_quota,
    data_caches,
    detect,
    memory_limits,
    usable_cores,
)
from vivace.hardware.memory import peak_rss_bytes

pytestmark = pytest.mark.tiny

GIB = 2**30
AVX2 = "avx2 fma f16c"
AVX512 = f"{AVX2} avx512f avx512bw avx512vl avx512dq avx512_vnni"
AVX512BF16 = f"{AVX512} avx512_bf16"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ("sse2", "portable"),
        (AVX2, "avx2"),
        ("avx2 fma", "portable"),
        (AVX512.replace("avx512_vnni", ""), "avx2"),
        (AVX512, "avx512"),
        (AVX512BF16, "avx512bf16"),
        (f"{AVX512BF16} amx_tile amx_bf16", "amx"),
        ("amx_tile amx_bf16", "portable"),
    ],
)
def test_isa_levels_need_all_flags_below(flags: str, level: str) -> None:
    assert isa_level(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n") == level
    assert levels_up_to(level)[-1] == level


def test_intel_without_tiles_computes_bfloat16_in_floats() -> None:
    flags = f"flags\t\t: {AVX512BF16}\n"
    assert isa_level(f"vendor_id\t: GenuineIntel\n{flags}") == "avx512"
    assert isa_level(f"vendor_id\t: AuthenticAMD\n{flags}") == "avx512bf16"
    assert isa_level(f"vendor_id\t: GenuineIntel\n{flags[:-1]} amx_tile amx_bf16\n") == "amx"


def test_an_arm_processor_with_dot_products_is_neon() -> None:
    features = "processor\t: 0\nFeatures\t: fp asimd asimdhp"
    assert isa_level(f"{features}\n") == "portable"
    assert isa_level(f"{features} asimddp\n") == "neon"
    assert levels_up_to("neon") == ("portable", "neon")


def test_a_processor_without_flags_is_portable() -> None:
    assert isa_level("") == "portable"


def test_cpu_quota_of_version_2_is_the_tightest_of_all_ancestors(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/box\n",
            "sys/fs/cgroup/pod/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/pod/box/cpu.max": "max 100000\n",
        },
    )
    assert cpu_quota(root) == 1.5


def test_cpu_quota_of_version_1(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/box\n2:memory:/box\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
        },
    )
    assert cpu_quota(root) == 2.5


def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"},
    )
    assert cpu_quota(root) == 2.0


def test_no_groups_no_limits(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) == math.inf
    assert memory_limits(tmp_path) == (0, 0)
    assert data_caches(tmp_path) == ()


def test_memory_is_cut_to_the_group_and_counts_file_pages_as_free(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/meminfo": f"MemTotal: {64 * 2**20} kB\nMemAvailable: {32 * 2**20} kB\n",
            "proc/self/cgroup": "0::/box\n",
            "sys/fs/cgroup/box/memory.max": f"{8 * GIB}\n",
            "sys/fs/cgroup/box/memory.current": f"{5 * GIB}\n",
            "sys/fs/cgroup/box/memory.stat": f"anon {3 * GIB}\ninactive_file {2 * GIB}\n",
        },
    )
    assert memory_limits(root) == (8 * GIB, 5 * GIB)


def test_memory_of_version_1_without_a_limit(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/meminfo": f"MemTotal: {4 * 2**20} kB\nMemAvailable: {2**20} kB\n",
            "proc/self/cgroup": "9:memory:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
        },
    )
    assert memory_limits(root) == (4 * GIB, GIB)


def test_data_caches_leave_instructions_out(tmp_path: Path) -> None:
    folder = "sys/devices/system/cpu/cpu0/cache/index"
    sizes = [("3", "Unified", "32M"), ("1", "Instruction", "32K"), ("1", "Data", "48K")]
    files = {
        f"{folder}{i}/{name}": f"{value}\n"
        for i, row in enumerate(sizes)
        for name, value in zip(("level", "type", "size"), row, strict=True)
    }
    assert data_caches(tree(tmp_path, files)) == (Cache(1, 48 * 2**10), Cache(3, 32 * 2**20))


def test_this_machine_is_sensible() -> None:
    machine = detect()
    assert 1 <= usable_cores() == machine.cores
    assert 0 < machine.memory_available <= machine.memory_total


def test_peak_memory_grows_with_what_is_touched() -> None:
    before = peak_rss_bytes()
    block = bytearray(64 * 2**20)
    assert len(block) > 0
    assert peak_rss_bytes() >= before
    assert peak_rss_bytes() >= 64 * 2**20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measured by /proc")
def test_peak_memory_is_that_of_this_process_alone() -> None:
    """Not of the one that started it."""
    block = bytearray(256 * 2**20)
    program = "from vivace.hardware.memory import peak_rss_bytes; print(peak_rss_bytes())"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    assert int(output) < len(block)
