"""What it takes to quantize a large model: minutes and memory, interrupted once.

    python benchmarks/quantize_large.py [--preset 1.1b] [--samples 128] [--sample-len 512]

Takes up to an hour for the preset 1.1b; prints one JSON object. The run is killed after
`--kill-after` layers and started again. `peak_bytes` is memory of the process' own: the mapped
checkpoint is not in it.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from vivace.bench.random_model import PRESETS, write_random_model

POLL_SECONDS = 0.2


@dataclass
class Watched:
    """Attributes:
    seconds: how long the process ran.
    peak_bytes: the most memory of its own that was seen.
    last_line: of its progress.
    """

    seconds: float
    peak_bytes: int
    last_line: str


def own_bytes(pid: int) -> int:
    """Anonymous memory; 0 where the process has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:")]
    return 1024 * int(found[0]) if found else 0


def watch(command: list[str], log: Path, last_file: Path | None) -> Watched:
    """Run until the end; or until a file appears, and kill it then."""
    start, peak = time.perf_counter(), 0
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        while process.poll() is None:
            peak = max(peak, own_bytes(process.pid))
            if last_file is not None and last_file.is_file():
                process.send_signal(signal.SIGKILL)
            time.sleep(POLL_SECONDS)
    lines = log.read_text(errors="replace").replace("\r", "\n").splitlines()
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit("\n".join(["It failed:", *lines[-5:]]))
    left = [line for line in lines if "left" in line]
    return Watched(time.perf_counter() - start, peak, left[-1].strip() if left else "")


def main() -> None:
    parser = argparse.ArgumentParser(description="Minutes and memory of quantizing.")
    parser.add_argument("--preset", choices=PRESETS, default="1.1b")
    parser.add_argument("--model", help="the random model, where there is one already")
    parser.add_argument("--scheme", default="int4-g128")
    parser.add_argument("--method", default="gptq")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--sample-len", type=int, default=512)
    parser.add_argument("--kill-after", type=int, default=2, help="layers; the run goes on then")
    given = parser.parse_args()
    model = Path(given.model or f"build/random/{given.preset}")
    write_random_model(model, PRESETS[given.preset])
    shards = PRESETS[given.preset].num_hidden_layers + 1
    with tempfile.TemporaryDirectory(dir="build") as place:
        out, log = Path(place, "out"), Path(place, "log")
        command = [sys.executable, "-m", "vivace", "quantize", str(model), str(out)]
        command += ["--scheme", given.scheme, "--method", given.method, "--eval-windows", "0"]
        command += ["--samples", str(given.samples), "--sample-len", str(given.sample_len)]
        partial = out.with_name("out.partial")
        stop = partial / f"model-{given.kill_after:05}-of-{shards:05}.safetensors"
        first = watch(command, log, stop)
        kept = stop.stat().st_mtime_ns
        second = watch(command, log, None)
        resumed = (out / stop.name).stat().st_mtime_ns == kept
    report = {
        "preset": given.preset,
        "samples": given.samples,
        "sample_len": given.sample_len,
        "seconds": [first.seconds, second.seconds],
        "peak_bytes": max(first.peak_bytes, second.peak_bytes),
        "resumed": resumed,
        "progress": first.last_line,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
