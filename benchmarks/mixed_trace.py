"""Requests of mixed lengths, from 16 clients: vivace, which batches as they come and go, beside
Transformers' `generate` in static batches, both in bfloat16; and vivace in int8.

    python benchmarks/mixed_trace.py [--requests 32] [--rounds 5] [--isa avx512]

Throughput is that of a service that goes on, as the papers on Orca and vLLM measure it: each round
takes the next requests of one long trace, and vivace's seats are taken throughout, those that run
at a round's end going on in the next. A static batch holds what 16 clients can ask at once, in the
order in which it comes. Prints one JSON object: output tokens per second of each, by round, and the
ratios of the medians to Transformers'.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from statistics import median

from peers import models
from peers.contenders import CONTENDERS, Contender
from peers.environments import PEERS
from peers.worker import Worker
from workers.protocol import Job

from vivace.hardware.machine import usable_cores

CONCURRENCY = 16
MAX_LEN = 1024
STATIC = "Transformers bfloat16"
COMPARED = ("vivace bfloat16", "vivace int8", STATIC)


def main() -> None:
    parser = argparse.ArgumentParser(description="Mixed lengths beside static batches.")
    parser.add_argument("--requests", type=int, default=32, help="in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--isa", choices=("native", "avx512"), default="native")
    parser.add_argument("--preset", default="1.1b", choices=models.PRESETS)
    given = parser.parse_args()
    takes = 2 + given.requests * given.rounds // 16
    print(f"This takes about {takes} minutes.", file=sys.stderr, flush=True)
    print(json.dumps(compare(given)))


def compare(given: argparse.Namespace) -> dict[str, object]:
    models.hugging_face(given.preset)
    rates: dict[str, list[float]] = {name: [] for name in COMPARED}
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(open_worker(CONTENDERS[name], given)) for name in COMPARED
        }
        for worker in workers.values():
            worker.call("mixed", 0, CONCURRENCY)  # warms up, and fills the seats
        for done in range(given.rounds):
            first = CONCURRENCY + done * given.requests
            for name, worker in workers.items():
                rates[name].append(worker.call("mixed", first, given.requests))
    middles = {name: median(values) for name, values in rates.items()}
    return {
        "requests": given.requests,
        "concurrency": CONCURRENCY,
        "output_tokens_per_second": rates,
        "ratios": {name: middles[name] / middles[STATIC] for name in COMPARED if name != STATIC},
    }


def open_worker(contender: Contender, given: argparse.Namespace) -> Worker:
    folder = str(models.build(given.preset, contender.model))
    job = Job(folder, contender.format, given.threads, CONCURRENCY, MAX_LEN, given.isa)
    variables = PEERS[contender.peer].variables(given.threads)
    if given.isa == "avx512":
        variables |= contender.no_amx_variables
    return Worker(contender.worker, job, PEERS[contender.peer].python, variables)


if __name__ == "__main__":
    main()
