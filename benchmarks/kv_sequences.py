"""How many sequences one amount of KV memory holds, in each page format.

    python benchmarks/kv_sequences.py [--mib 32] [--context 4096] [--started 64]

A random-weight model of one layer, whose KV heads are those of vivace-mini, starts more sequences
than fit; as they grow, the engine takes the pages of the last from them. What counts is how many
reach the context side by side: those that end in the first step in which any ends. Takes a minute;
prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from vivace.bench.random_model import LlamaShape, write_random_model
from vivace.bench.run import random_requests
from vivace.core.config import EngineConfig
from vivace.engine.build import build_engine
from vivace.engine.core import EngineCore

FORMATS = ("auto", "int8", "int4")


def side_by_side(core: EngineCore, started: int, context: int) -> int:
    """How many of the sequences that were started together reach the context together."""
    for request in random_requests(core, started, 1, context - 1, np.random.default_rng(0)):
        core.add(request)
    ended = 0
    while not ended:
        ended = sum(delta.finish_reason == "length" for delta in core.step())
    core.check_integrity()
    return ended


def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    shape = LlamaShape(1, 128, 64, 2, 2, 256, tie_word_embeddings=True)
    model = str(write_random_model(folder, shape))
    sequences = {}
    for kept in given.formats:
        config = EngineConfig(
            model,
            backend="cpu",
            dtype="bfloat16",
            packed_cache=False,
            max_model_len=given.context,
            max_num_seqs=given.started,
            max_num_batched_tokens=given.started,
            kv_memory_bytes=given.mib << 20,
            kv_cache_dtype=kept,
            enable_prefix_caching=False,
        )
        core = build_engine(config)
        sequences[kept] = side_by_side(core, given.started, given.context)
        print(f"{kept}: {sequences[kept]} sequences", file=sys.stderr)
    return {"bytes": given.mib << 20, "context": given.context, "sequences": sequences}


def main() -> None:
    parser = argparse.ArgumentParser(description="How many sequences KV memory holds.")
    parser.add_argument("--mib", type=int, default=32)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--started", type=int, default=64, help="more than fit in any format")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    given = parser.parse_args()
    with TemporaryDirectory() as made:
        print(json.dumps(measure(Path(made), given)))


if __name__ == "__main__":
    main()
