"""Smaller, faster, as good? One table: bytes of all weights, decoding at batch 1, KL divergence.

    python benchmarks/claims.py [--preset 1.1b] [--rounds N] [--windows N]

Takes some minutes; prints one JSON object. Sizes and speed are of a model of random weights, each
scheme's decode rate beside that of bfloat16 in the same round. What it costs is measured on the
held-out text with the bundled model, in the same schemes, quantized as `vivace quantize` does by
default. Everything is rounded: the head and the embedding too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from vivace import LLM
from vivace.backends.cpu import CpuBackend
from vivace.bench.random_model import PRESETS, write_random_model
from vivace.bench.run import random_requests, run_requests
from vivace.core.config import EngineConfig
from vivace.engine.build import build_engine
from vivace.engine.core import EngineCore
from vivace.engine.plan import weight_bytes
from vivace.evaluate.corpus import held_out_files
from vivace.evaluate.plans import Protocol
from vivace.evaluate.scoring import cut, score
from vivace.evaluate.summary import divergence
from vivace.formats.checkpoint import open_checkpoint
from vivace.formats.hub import resolve_model
from vivace.formats.policy import PrecisionPolicy
from vivace.hardware.machine import detect
from vivace.models.loader import model_spec
from vivace.models.precision import precision_of
from vivace.optimize.calibrate import default_texts, draw
from vivace.optimize.plans import CalibrationPlan
from vivace.optimize.quantize.run import Job, quantize
from vivace.text.tokenizer import load_tokenizer

PROMPT, ANSWER = 16, 64


@dataclass(frozen=True)
class Precision:
    """Attributes:
    layers: the scheme of the layers; None leaves them in bfloat16.
    rest: what the head and the embedding are rounded to.
    """

    layers: str | None
    rest: str

    def policy(self) -> str | None:
        """All of it rounded as it is loaded."""
        return None if self.layers is None else f"{self.layers},{self.rest}"


PRECISIONS = {
    "bfloat16": Precision(None, ""),
    "int8": Precision("int8", "head=int8,embedding=int8"),
    "int4-g128": Precision("int4-g128", "head=int4-g128,embedding=int8"),
    "int4-g32": Precision("int4-g32", "head=int4-g32,embedding=int8"),
}


def size(model: Path, precision: Precision) -> dict[str, float]:
    """Of all weights, scales included, beside those of the model in float32 and bfloat16."""
    checkpoint = open_checkpoint(model)
    spec = model_spec(checkpoint.config)
    schemes = precision_of(spec, checkpoint, PrecisionPolicy.parse(precision.policy())).schemes
    nbytes = weight_bytes(spec, "bfloat16", schemes)
    plain = {dtype: weight_bytes(spec, dtype, {}) for dtype in ("float32", "bfloat16")}
    ratios = {f"smaller_than_{dtype}": plain[dtype] / nbytes for dtype in plain}
    return {"bytes": nbytes, **ratios}


def engine(model: Path, precision: Precision) -> EngineCore:
    config = EngineConfig(
        str(model),
        backend="cpu",
        dtype="bfloat16",
        quantize=precision.policy(),
        packed_cache=False,
        max_model_len=256,
        max_num_seqs=1,
        kv_memory_bytes=64 << 20,
    )
    return build_engine(config)


def decode_rate(core: EngineCore, seed: int) -> float:
    requests = random_requests(core, 1, PROMPT, ANSWER, np.random.default_rng(seed))
    run = run_requests(core, requests)
    return run.decode_tokens / run.decode_seconds


def speeds(model: Path, rounds: int) -> dict[str, dict[str, float]]:
    """All precisions in turn, one round after another; the first warms up."""
    cores = {name: engine(model, precision) for name, precision in PRECISIONS.items()}
    rates: dict[str, list[float]] = {name: [] for name in cores}
    for turn in range(rounds + 1):
        for name, core in cores.items():
            rates[name].append(decode_rate(core, turn))
    ratios = {
        name: [rate / base for rate, base in zip(found, rates["bfloat16"], strict=True)][1:]
        for name, found in rates.items()
    }
    return {
        name: {
            "tokens_per_second": median(rates[name][1:]),
            "faster": median(ratios[name]),
            "least": min(ratios[name]),
            "most": max(ratios[name]),
        }
        for name in cores
    }


def losses(folder: Path, windows: int, samples: int) -> dict[str, dict[str, Any]]:
    """Of the bundled model in each precision, beside the model as it is."""
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None, "The model has no tokenizer.json to read text with."
    runs = tuple(draw(default_texts(), tokenizer.encode, CalibrationPlan(samples, 512)))
    cuts = cut(held_out_files(), tokenizer, Protocol(), windows)
    base = loaded(folder, None)
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as place:
        for name, precision in PRECISIONS.items():
            if precision.layers is None:
                continue
            out = Path(place, name)
            backend = CpuBackend("bfloat16", detect().cores)
            job = Job(folder.name, folder, out, precision.layers, "gptq", backend, runs)
            quantize(job).artefact.publish()
            scores = score(loaded(out, precision.rest).logit_batches, cuts, base.logit_batches)
            assert scores.beside is not None
            figures = divergence(scores, scores.beside, cuts)
            found[name] = {key: value.value for key, value in figures.items()}
            print(f"{name}: {found[name]}", file=sys.stderr)
    return found


def loaded(folder: Path, policy: str | None) -> LLM:
    return LLM(
        str(folder),
        quantize=policy,
        packed_cache=False,
        notify=lambda line: None,
        max_model_len=Protocol().context,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Size, speed and what they cost.")
    parser.add_argument("--preset", choices=PRESETS, default="1.1b")
    parser.add_argument("--model", help="the random model, where there is one already")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument("--samples", type=int, default=32, help="calibration runs of 512 tokens")
    given = parser.parse_args()
    model = Path(given.model or f"build/random/{given.preset}")
    write_random_model(model, PRESETS[given.preset])
    costs = losses(resolve_model(None), given.windows, given.samples)
    rates = speeds(model, given.rounds)
    table = {
        name: {**size(model, precision), **rates[name], **costs.get(name, {})}
        for name, precision in PRECISIONS.items()
    }
    print(json.dumps({"preset": given.preset, "rounds": given.rounds, "schemes": table}))


if __name__ == "__main__":
    main()
