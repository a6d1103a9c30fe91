"""Many requests with every lossless mechanism at work, each compared with itself alone.

    python benchmarks/lossless.py [--requests 10000] [--seed 0]

The bundled draft model on 40 KV pages, with host memory and disk below them: priorities, tenants,
deadlines, aging, a target and prefetches decide who runs when, pages go down and come up, and the
engine is started anew between parts. Prints one JSON object: how many answers differ from those of
each request alone in an engine without sharing, and how often what was at work.
"""

from __future__ import annotations

import argparse
import json

from scheduling.command import report
from scheduling.mixed_company import measure


def main() -> None:
    parser = argparse.ArgumentParser(description="Requests in company beside each one alone.")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    report("10,000 requests take 4 minutes on two cores.")
    print(json.dumps(measure(given.requests, given.seed)))


if __name__ == "__main__":
    main()
