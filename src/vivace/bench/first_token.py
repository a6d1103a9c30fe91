"""A process that loads a model and draws one token: what `bench startup` starts and times.

    python -m vivace.bench.first_token '{"model": FOLDER, ...}' INPUT_LEN

Prints one JSON object as soon as the token is there; its times are seconds.
"""

from __future__ import annotations

import json
import sys
from time import perf_counter

import numpy as np

from vivace.bench.run import random_requests, run_requests
from vivace.core.config import EngineConfig
from vivace.engine.build import build_engine
from vivace.hardware.memory import peak_rss_bytes


def main(config: EngineConfig, input_len: int) -> None:
    started = perf_counter()
    core = build_engine(config)
    loaded = perf_counter()
    run_requests(core, random_requests(core, 1, input_len, 1, np.random.default_rng(config.seed)))
    times = {"load_time": loaded - started, "first_token_time": perf_counter() - loaded}
    info = core.info
    facts = {"backend": info.backend, "dtype": info.dtype, "threads": info.threads}
    facts |= {"quantization": info.quantization, "model": info.model_name}
    facts |= {"peak_rss_bytes": peak_rss_bytes()}
    print(json.dumps({**times, **facts}), flush=True)


if __name__ == "__main__":
    main(EngineConfig(**json.loads(sys.argv[1])), int(sys.argv[2]))
