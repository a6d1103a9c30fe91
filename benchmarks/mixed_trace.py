"""Requests of mixed lengths: vivace, which batches as they come and go, beside Transformers'
`generate` in static batches of 16.

    python benchmarks/mixed_trace.py [--requests 64] [--rounds 5] [--quantize int8]

Prints one JSON object: output tokens per second of each, by round, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import json
import sys
from statistics import median

from peers import models
from workers.protocol import Job, Worker, mixed_lengths

from vivace.hardware.machine import usable_cores


def main() -> None:
    parser = argparse.ArgumentParser(description="Mixed lengths beside static batches.")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--isa", choices=("native", "avx512"), default="native")
    parser.add_argument("--quantize", default="int8", help="vivace's weights, or bfloat16")
    parser.add_argument("--preset", default="1.1b", choices=models.PRESETS)
    given = parser.parse_args()
    takes = given.requests * (given.rounds + 1) // 20
    print(f"This takes about {takes} minutes.", file=sys.stderr, flush=True)
    print(json.dumps(compare(given)))


def compare(given: argparse.Namespace) -> dict[str, object]:
    folder = str(models.hugging_face(given.preset))
    tokens = sum(answer for _, answer in mixed_lengths(given.requests))
    ours = Job(folder, given.quantize, given.threads, 32, 1024, given.isa)
    theirs = Job(folder, "bfloat16", given.threads, isa=given.isa)
    no_amx = {"VIVACE_ISA": "avx512"} if given.isa == "avx512" else {}
    with (
        Worker("vivace_worker.py", ours, environment=no_amx) as vivace,
        Worker("transformers_worker.py", theirs) as transformers,
    ):
        workers = {"vivace": vivace, "transformers": transformers}
        rates: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(given.rounds + 1):
            for name, worker in workers.items():
                rates[name].append(tokens / worker.call("mixed", given.requests))
    rates = {name: values[1:] for name, values in rates.items()}  # the first one warms up
    ratio = median(rates["vivace"]) / median(rates["transformers"])
    return {"requests": given.requests, "output_tokens_per_second": rates, "ratio": ratio}


if __name__ == "__main__":
    main()
