"""Decode at batch 1 and prefill of 512, beside Hugging Face Transformers, in bfloat16.

    python benchmarks/transformers_cpu.py [--models 0.35b 1.1b] [--rounds 5] [--threads N]

Random weights of the true shape; both in processes of their own, interleaved round by round.
Prints one JSON object: ratios of vivace to Transformers, every rate behind them, and the machine's
limit for decode, measured in the same rounds: a token cannot come sooner than its weights are read.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from peers.worker import Worker
from workers.protocol import Job

from vivace.bench.random_model import PRESETS, write_random_model
from vivace.formats.checkpoint import open_checkpoint
from vivace.hardware.machine import usable_cores

ROOT = Path(__file__).parent.parent
# name -> what the worker is given, and the tokens that it computes or draws
TASKS: dict[str, tuple[tuple[int, ...], int]] = {
    "prefill": ((512,), 512),
    "decode": ((1, 64, 32), 32),
}
WARM_UPS = 2
SCRIPTS = {"vivace": "vivace_worker.py", "transformers": "transformers_worker.py"}

Rates = dict[str, dict[str, list[float]]]


def compare(model: str, rounds: int, threads: int) -> dict[str, Any]:
    """One model's ratios; each round times both, one right after the other."""
    folder = write_random_model(ROOT / "build" / "random" / model, PRESETS[model])
    job = Job(str(folder), threads=threads, sequences=1, max_len=1024)
    rates: Rates = {task: {name: [] for name in SCRIPTS} for task in TASKS}
    reads = []
    with (
        Worker(SCRIPTS["vivace"], job) as vivace,
        Worker(SCRIPTS["transformers"], job) as transformers,
    ):
        workers = {"vivace": vivace, "transformers": transformers}
        for worker in workers.values():
            warm_up(worker)
        for done in range(rounds):
            for task, (numbers, tokens) in TASKS.items():
                for name, worker in workers.items():
                    rates[task][name].append(tokens / worker.call(task, *numbers))
            reads.append(vivace.call("read"))
            print(f"{model}: round {done + 1} of {rounds}", file=sys.stderr, flush=True)
        about = {"vivace": vivace.about, "transformers": transformers.about}
    limit = _limit(folder, rates["decode"], median(reads))
    return {"about": about, **{task: _ratios(rates[task]) for task in TASKS}, "limit": limit}


def warm_up(worker: Worker) -> None:
    for task, (numbers, _) in TASKS.items():
        for _ in range(WARM_UPS):
            worker.call(task, *numbers)


def _limit(folder: Path, decode: dict[str, list[float]], read: float) -> dict[str, Any]:
    """How much of the machine's streaming read each decode is, by the weights read per token."""
    checkpoint = open_checkpoint(folder)
    tensors = checkpoint.tensors
    looked_up = () if checkpoint.config["tie_word_embeddings"] else ("model.embed_tokens.weight",)
    weights = sum(tensors.nbytes(name) for name in tensors if name not in looked_up)
    return {
        "read_bytes_per_second": read,
        "weight_bytes_per_token": weights,
        "decode_share": {name: median(values) * weights / read for name, values in decode.items()},
    }


def _ratios(rates: dict[str, list[float]]) -> dict[str, Any]:
    pairs = zip(rates["vivace"], rates["transformers"], strict=True)
    medians = {name: median(values) for name, values in rates.items()}
    return {
        "ratio": medians["vivace"] / medians["transformers"],
        "ratio_by_round": [ours / theirs for ours, theirs in pairs],
        "tokens_per_second": medians,
        "tokens_per_second_by_round": rates,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="vivace beside Hugging Face Transformers.")
    parser.add_argument("--models", nargs="+", choices=PRESETS, default=["0.35b", "1.1b"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=usable_cores())
    given = parser.parse_args()
    print("This takes about 2 minutes a model.", file=sys.stderr, flush=True)
    models = {model: compare(model, given.rounds, given.threads) for model in given.models}
    shape = {"threads": given.threads, "prefill_tokens": 512, "decode_batch": 1}
    print(json.dumps({**shape, "models": models}))


if __name__ == "__main__":
    main()
