"""Measure the claims about speed on a CPU and keep the results in proofs/cpu-speed.json.

    python tools/prove_cpu_speed.py [--row N] [--isa avx512] [--show]

With --isa avx512 nobody uses AMX, and the results are kept in proofs/cpu-speed-avx512.json. Exits
with 1 if a row that was run does not hold.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from claims import cpu_speed, serving
from claims.by_tests import tests_pass
from claims.row import Row
from claims.runner import Proof, add_arguments, run_rows

PROOFS = Path(__file__).parent.parent / "proofs"
FILES = {"native": PROOFS / "cpu-speed.json", "avx512": PROOFS / "cpu-speed-avx512.json"}
KERNEL_TESTS = (
    "tests/native",
    "tests/backends",
    "tests/cache/test_random_use.py",
    "tests/engine/test_lossless.py",
)


def rows(isa: str) -> dict[int, Row]:
    """The rows in the order of the issue; times are for two cores, with the peers installed."""
    return {
        1: Row(
            "Prefill of 512 tokens is ahead of every peer's, and near the int8 peak",
            "int8 1.1 times the best int8 peer and 75% of the peak, int4 1.35 times the best int4 "
            "peer and 68%, bfloat16 0.97 times the best bfloat16 peer",
            "10 to 15 minutes",
            lambda: cpu_speed.prefill(isa),
        ),
        2: Row(
            "Decode at batch 1 is ahead of llama.cpp's, and near the streaming read",
            "int4 1.1 times Q4_0 at no more bytes per weight, int4-g32 1.0 times, int8 1.1 times "
            "Q8_0; each 88% of the streaming read below 40 GB/s, 72% above",
            "3 to 5 minutes",
            lambda: cpu_speed.decode_one(isa),
        ),
        3: Row(
            "Decode in batches is ahead of every peer's in any format",
            "batch 16, at contexts of 64 and 1024: int4 1.7 times the best peer, int8 1.5 times; "
            "batch 4: 1.4 times",
            "15 to 25 minutes",
            lambda: cpu_speed.decode_many(isa),
        ),
        4: Row(
            "Attention does not spoil decode at a context of 4096",
            "no more time than the KV bytes explain, +10%",
            "3 minutes",
            lambda: cpu_speed.long_context(isa),
        ),
        5: Row(
            "A 1.1B int4 model starts within a second, and takes little more than its weights",
            "first token below 1 s and before llama.cpp's; at most 1.1 times weights and KV, "
            "+150 MB",
            "1 to 2 minutes",
            lambda: cpu_speed.start(isa),
        ),
        6: Row(
            "Serving 16 clients is ahead of every peer's, with no longer pauses",
            "1.5 times the best peer at prompt 32, answer 256; 1.2 times at prompt 256, answer 64; "
            "p99 between tokens no worse; 4 times static batches on mixed lengths",
            "60 to 100 minutes",
            lambda: serving.prove(isa),
        ),
        7: Row(
            "Every kernel is deterministic and matches the reference",
            "all tests pass",
            "2 to 5 minutes",
            lambda: tests_pass(*KERNEL_TESTS),
        ),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the claims about speed on a CPU.")
    add_arguments(parser, rows("native"))
    parser.add_argument("--isa", choices=FILES, default="native")
    given = parser.parse_args()
    return run_rows(Proof(rows(given.isa), FILES[given.isa]), given.row, given.show)


if __name__ == "__main__":
    sys.exit(main())
