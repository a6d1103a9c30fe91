"""Builds the native tests with this machine's compiler and runs them at every ISA level."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "native"
TESTS = Path(__file__).resolve().parent
BUILD = ROOT / "build" / "native-tests"

# As in CMakeLists.txt; GCC 12 warns of uninitialised values within its own intrinsics.
COMMON = ["-std=c++20", "-ffp-contract=off", "-fno-math-errno", "-fPIC", f"-I{NATIVE}"]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, *(f"-mavx512{part}" for part in ("f", "bw", "vl", "dq", "vnni"))]
AVX512BF16 = [*AVX512, "-mavx512bf16"]
AMX = [*AVX512BF16, *(f"-mamx-{part}" for part in ("tile", "bf16", "int8"))]
X86 = {"avx2": AVX2, "avx512": AVX512, "avx512bf16": AVX512BF16, "amx": AMX}
LEVELS = {"x86_64": X86, "AMD64": X86, "aarch64": {"neon": ["-march=armv8.2-a+dotprod"]}}
SIMD = {"portable": []} | {
    level: [f"-DVIVACE_SIMD_{level.upper()}"] for level in ("avx2", "avx512", "neon")
}
SIMD["avx512bf16"] = [*SIMD["avx512"], "-DVIVACE_BF16_DOT"]
# All of the runtime but its bindings; steps are tested where a linker can count allocations.
RUNTIME = sorted(
    path.stem
    for path in NATIVE.glob("*.cpp")
    if not path.stem.startswith(("bindings", "kernels", "packed_file"))
)
STEPS = ["test_steps"] if sys.platform == "linux" else []
COUNTED = [f"-Wl,--wrap={name}" for name in ("malloc", "aligned_alloc", "mmap") if STEPS]


def compiler() -> str | None:
    return shutil.which(os.environ.get("CXX", "c++"))


def knows(flags: list[str]) -> bool:
    """Whether the compiler takes these flags for this machine."""
    command = [str(compiler()), *flags, "-x", "c++", "-fsyntax-only", "-"]
    return subprocess.run(command, input="", text=True, capture_output=True).returncode == 0


def levels() -> dict[str, list[str]]:
    possible = LEVELS.get(platform.machine(), {})
    return {level: flags for level, flags in possible.items() if knows(flags)}


def object_commands() -> dict[str, list[str]]:
    """Per object file its compiler arguments."""
    known = levels()
    have = [f"-DVIVACE_HAVE_{level.upper()}" for level in known]
    commands = {
        f"{source}.o": ["-O2", *have, f"{NATIVE}/{source}.cpp"] for source in ("kernels", *RUNTIME)
    }
    for source in (
        "test_kernels",
        "layers",
        "test_gemm",
        "test_attention",
        "test_packed_pages",
        "test_pool",
        *STEPS,
    ):
        commands[f"{source}.o"] = ["-O2", *have, f"{TESTS}/{source}.cpp"]
    for level, flags in {"portable": ["-Wno-psabi"], **known}.items():
        commands[f"{level}.o"] = ["-O3", *flags, f"{NATIVE}/kernels_{level}.cpp"]
        if level in SIMD:
            simd = [f"-DVIVACE_ISA={level}", *SIMD[level]]
            commands[f"simd_{level}.o"] = ["-O2", *flags, *simd, f"{TESTS}/test_simd.cpp"]
    return commands


def build() -> Path:
    """The test program, built anew only where a source is newer."""
    program = BUILD / "test_kernels"
    sources = [*NATIVE.glob("*"), *TESTS.glob("*")]
    if program.exists() and program.stat().st_mtime > max(s.stat().st_mtime for s in sources):
        return program
    BUILD.mkdir(parents=True, exist_ok=True)
    commands = object_commands()
    compilers = [
        subprocess.Popen([str(compiler()), *COMMON, *arguments, "-c", "-o", str(BUILD / target)])
        for target, arguments in commands.items()
    ]
    assert [process.wait() for process in compilers] == [0] * len(compilers)
    objects = [str(BUILD / target) for target in commands]
    link = [str(compiler()), "-pthread", *COUNTED, *objects, "-o", str(program)]
    subprocess.run(link, check=True)
    return program


@pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
def test_every_kernel_at_every_level() -> None:
    result = subprocess.run([build()], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout
    assert "portable:" in result.stdout
