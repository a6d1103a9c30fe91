"""vivace in a worker: `vivace_worker.py MODEL THREADS`."""

from __future__ import annotations

import sys

import numpy as np
from protocol import answer_tasks

from vivace import __version__
from vivace.backends.cpu import CpuBackend
from vivace.bench.run import Run, random_requests, run_requests
from vivace.core.config import EngineConfig
from vivace.engine.build import build_engine

DECODE_CONTEXT = 64
WARM_UP = (("prefill", 512), ("decode", 8))


def main(model: str, threads: int) -> None:
    core = build_engine(EngineConfig(model, dtype="bfloat16", max_model_len=1024, threads=threads))
    rng = np.random.default_rng(0)

    def run(input_len: int, output_len: int) -> Run:
        return run_requests(core, random_requests(core, 1, input_len, output_len, rng))

    def prefill(tokens: int) -> float:
        return tokens / run(tokens, 1).elapsed

    def decode(tokens: int) -> float:
        timed = run(DECODE_CONTEXT, tokens + 1)
        return timed.decode_tokens / timed.decode_seconds

    def read(_: int) -> float:
        return CpuBackend("bfloat16", threads).read_bandwidth()

    tasks = {"prefill": prefill, "decode": decode, "read": read}
    for task, tokens in WARM_UP:
        tasks[task](tokens)
    info = core.info
    answer_tasks({"vivace": __version__, "backend": info.backend, "dtype": info.dtype}, tasks)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
