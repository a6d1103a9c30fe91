"""Install a wheel where nothing can be compiled, and use it.

python tools/test_wheel.py build/wheel/vivace-0.1.0-cp311-cp311-linux_x86_64.whl
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

NEEDED = ("vivace/backends/cpu/_native", "vivace/assets/vivace-mini/model.safetensors")
LEVELS = ("portable", "")  # "" is the best that this processor has


def main() -> None:
    parser = argparse.ArgumentParser(description="Install a wheel without a compiler and use it.")
    parser.add_argument("wheel", type=Path)
    wheel = parser.parse_args().wheel
    check_contents(wheel)
    with TemporaryDirectory() as name:
        folder = Path(name)
        program = installed(wheel, folder)
        texts = {level or "best": generated(program, folder, level) for level in LEVELS}
    print(json.dumps({"wheel": wheel.name, "bytes": wheel.stat().st_size, "texts": texts}))


def check_contents(wheel: Path) -> None:
    """The native module and the bundled model are in it."""
    names = zipfile.ZipFile(wheel).namelist()
    for needed in NEEDED:
        if not any(name.startswith(needed) for name in names):
            sys.exit(f"{wheel} lacks {needed}: was it built without a C++ compiler?")


def installed(wheel: Path, folder: Path) -> Path:
    """The program `vivace` in a fresh environment; pip may build nothing."""
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = [venv / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--only-binary=:all:", wheel], check=True)
    return venv / "bin" / "vivace"


def generated(program: Path, folder: Path, level: str) -> str:
    """What the bundled model says with the kernels of a level, where PATH leads nowhere."""
    environment = {"PATH": str(folder / "nothing"), "XDG_CACHE_HOME": str(folder / "cache")}
    if level:
        environment["VIVACE_ISA"] = level
    line = ["generate", "--prompt", "def add(a, b):", "--max-tokens", "12", "--temperature", "0"]
    process = subprocess.run(
        [program, *line, "--json"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode or " on cpu" not in process.stderr:
        sys.exit(f"vivace failed, or runs without its native module:{os.linesep}{process.stderr}")
    answer: dict[str, Any] = json.loads(process.stdout)
    return str(answer["text"])


if __name__ == "__main__":
    main()
