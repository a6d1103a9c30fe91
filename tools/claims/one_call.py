"""Row 6: a decode step is one native call, and little else."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import numpy as np

from claims.by_tests import tests_pass
from claims.row import Outcome, all_of, missing
from vivace.bench.random_model import PRESETS, write_random_model
from vivace.bench.run import random_requests, run_requests
from vivace.core.config import EngineConfig
from vivace.engine.build import build_engine
from vivace.engine.core import EngineCore

ROOT = Path(__file__).parent.parent.parent
BAR = 0.03
RUNS, TOKENS = 5, 64
FORMATS = {"bfloat16": None, "int4-g128": "int4-g128"}


def prove() -> Outcome:
    counted = tests_pass("tests/backends/test_cpu_decoder.py::test_a_step_is_one_native_call")
    return all_of(counted, _shares_outside())


def _shares_outside() -> Outcome:
    """Of a decode step's time at 0.35B and batch 1, the share that is not native."""
    folder = write_random_model(ROOT / "build" / "random" / "0.35b", PRESETS["0.35b"])
    by_run: dict[str, list[float]] = {}
    for name, quantize in FORMATS.items():
        config = EngineConfig(str(folder), dtype="bfloat16", quantize=quantize, max_model_len=1024)
        core = build_engine(config)
        if core.info.backend != "cpu":
            return missing("the native backend")
        by_run[name] = _by_run(core)
    shares = {name: median(runs) for name, runs in by_run.items()}
    measured = ", ".join(f"{share:.1%} in {name}" for name, share in shares.items())
    return Outcome(
        f"of a decode step is not native: {measured}",
        max(shares.values()) < BAR,
        figures={"share_outside_native": shares, "by_run": by_run, "tokens": TOKENS},
    )


def _by_run(core: EngineCore) -> list[float]:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(RUNS + 1):  # the first one warms up
        before = core.stats()
        run_requests(core, random_requests(core, 1, 1, TOKENS, rng))
        after = core.stats()
        native = after.native_seconds - before.native_seconds
        shares.append(1 - native / (after.step_seconds - before.step_seconds))
    return shares[1:]
