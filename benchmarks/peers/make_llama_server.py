"""llama.cpp's own server, which batches, from the sources that llama-cpp-python brings.

    python make_llama_server.py FOLDER REQUIREMENT OPTIONS ...

The program becomes FOLDER/bin/llama-server; OPTIONS go to CMake, which this environment has.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

SOURCES = "*/vendor/llama.cpp"
PLAIN = (
    *("-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF"),
    *("-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_OPENSSL=OFF"),
)


def main(folder: Path, requirement: str, *options: str) -> None:
    sources = folder / "sources"
    download = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps"]
    package = requirement.partition("==")[0]  # what builds it may come built
    _run(*download, "--no-binary", package, "--dest", str(sources), requirement)
    (archive,) = sources.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(sources, filter="data")
    (llama_cpp,) = sources.glob(SOURCES)
    build = str(folder / "build")
    _run("cmake", "-S", str(llama_cpp), "-B", build, *PLAIN, *options)
    _run("cmake", "--build", build, "--target", "llama-server")
    target = folder / "bin" / "llama-server"
    target.unlink(missing_ok=True)
    target.hardlink_to(folder / "build" / "bin" / "llama-server")


def _run(*command: str) -> None:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, check=True, env={**os.environ, "PATH": programs})


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
