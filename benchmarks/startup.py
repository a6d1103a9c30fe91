"""How long a process takes to its first token with the bundled model, and to its help text.

    python benchmarks/startup.py [--rounds 7] [--model FOLDER] [--quantize SCHEME]

Prints one JSON object; times are medians, in seconds since the process was started. A round that is
not counted goes first: it fills the file cache and the cache of packed weights. What a start
consists of, the first one too, is told by `vivace bench startup`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

PROMPT = "def read_lines(path):\n"


def seconds_to_first_byte(command: Sequence[str]) -> float:
    """From starting a process to its first byte on standard output."""
    started = perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    ) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        seconds = perf_counter() - started
        process.stdout.read()
    if not first or process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}.")
    return seconds


def vivace() -> list[str]:
    """The installed program, or the package where it is not installed."""
    program = Path(sys.executable).parent / "vivace"
    return [str(program)] if program.exists() else [sys.executable, "-m", "vivace"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Process start to first token.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model", help="left out, the bundled model")
    parser.add_argument("--quantize", help="as `vivace generate --quantize` takes it")
    given = parser.parse_args()
    generate = ["generate", *([given.model] if given.model else [])]
    generate += ["--quantize", given.quantize] if given.quantize else []
    commands = {
        "first_token": [*vivace(), *generate, "--prompt", PROMPT, "--max-tokens", "8"],
        "help": [*vivace(), "--help"],
    }
    times = {name: [] for name in commands}
    for _ in range(given.rounds + 1):
        for name, command in commands.items():
            times[name].append(seconds_to_first_byte(command))
    medians = {f"{name}_seconds": median(values[1:]) for name, values in times.items()}
    print(json.dumps({**medians, "by_round": {name: v[1:] for name, v in times.items()}}))


if __name__ == "__main__":
    main()
