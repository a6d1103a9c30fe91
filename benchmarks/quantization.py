"""What each method of quantization costs at equal bits: nats per token and KL divergence.

    python benchmarks/quantization.py [--schemes int4-g128-a16 ...] [--seeds N] [--windows N]

Takes about ten minutes with the bundled model; prints one JSON object. Every model is scored on
the same windows of the held-out text; methods that read text are calibrated on several seeds.
`delta_nll` is what a method costs in nats per token, with the interval of its seeds' mean over
windows; `gain` is what it saves of the cost of rounding to nearest, paired window by window, and
`recovery` the same as a share. `outliers` is int8, activations too, in a model with outliers that
change nothing in floats (benchmarks/outliers.py).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from outliers import inject

from vivace import LLM
from vivace.backends.cpu import CpuBackend
from vivace.evaluate.bootstrap import bootstrap, ratio
from vivace.evaluate.corpus import held_out_files
from vivace.evaluate.plans import Protocol
from vivace.evaluate.scoring import Window, cut, score
from vivace.formats.hub import resolve_model
from vivace.hardware.machine import detect
from vivace.optimize.calibrate import TokenIds, default_texts, draw
from vivace.optimize.evidence import View, size_of
from vivace.optimize.plans import CalibrationPlan
from vivace.optimize.quantize.methods import METHODS
from vivace.optimize.quantize.run import Job, quantize
from vivace.text.tokenizer import load_tokenizer

SCHEMES = ("int4-g128-a16", "int3-g128")
FACTORS = (32, 256)  # of outliers
COMPARED = ("rtn", "hqq", "gptq", "awq", "awq-gptq")


@dataclass(frozen=True)
class Loss:
    """Sums over the tokens of each window, [windows]: cost beyond the base's, and divergence."""

    nats: NDArray[np.float64]
    kl: NDArray[np.float64]


@dataclass(frozen=True)
class Bench:
    """What all measurements share."""

    folder: Path
    base: LLM
    windows: Sequence[Window]
    runs: Sequence[tuple[TokenIds, ...]]  # per calibration seed
    place: Path

    @property
    def tokens(self) -> NDArray[np.int64]:
        return np.asarray([len(window.targets) for window in self.windows])

    def made(self, folder: Path, scheme: str, method: str, seed: int) -> Path:
        out = self.place / f"{folder.name}-{scheme}-{method}-{seed}"
        backend = CpuBackend("bfloat16", detect().cores)
        runs = self.runs[seed] if METHODS[method].reads_text else ()
        quantize(Job(folder.name, folder, out, scheme, method, backend, runs)).artefact.publish()
        return out

    def loss(self, folder: Path) -> Loss:
        """Of a model beside the base."""
        scores = score(loaded(folder).logit_batches, self.windows, self.base.logit_batches)
        assert scores.beside is not None
        sums = (scores.nats - scores.beside.base_nats, scores.beside.kl)
        return Loss(*(np.bincount(scores.windows, weights=values) for values in sums))

    def mean(self, sums: NDArray[np.float64]) -> dict[str, Any]:
        return asdict(bootstrap(ratio(sums, self.tokens), len(self.windows)))


def loaded(folder: Path | None) -> LLM:
    model = None if folder is None else str(folder)
    return LLM(model, packed_cache=False, notify=lambda line: None, max_model_len=1024)


def compare(bench: Bench, scheme: str) -> dict[str, Any]:
    """Each method in one scheme; the same bits, counted from the files."""
    methods: dict[str, Any] = {}
    for method in COMPARED:
        seeds = range(len(bench.runs) if METHODS[method].reads_text else 1)
        folders = [bench.made(bench.folder, scheme, method, seed) for seed in seeds]
        losses = [bench.loss(folder) for folder in folders]
        nats = np.mean([loss.nats for loss in losses], axis=0)
        nearest = nats if method == "rtn" else methods["rtn"]["sums"]
        methods[method] = {
            "sums": nats,
            "delta_nll": bench.mean(nats),
            "kl": bench.mean(np.mean([loss.kl for loss in losses], axis=0)),
            "by_seed": [float(loss.nats.sum() / bench.tokens.sum()) for loss in losses],
            "gain": bench.mean(nearest - nats),
            "recovery": 1 - float(nats.sum() / nearest.sum()),
            "bits": size_of(bench.folder, View(folders[0]))["bits_per_quantized_weight"],
        }
        print(f"{scheme} {method}: {methods[method]['delta_nll']['value']:.5f}", file=sys.stderr)
    return {name: without(found, "sums") for name, found in methods.items()}


def outliers(bench: Bench) -> dict[str, Any]:
    """Each figure is the perplexity over that of the model as it was."""
    return {str(factor): _with_outliers(bench, factor) for factor in FACTORS}


def _with_outliers(bench: Bench, factor: int) -> dict[str, Any]:
    changed = inject(bench.folder, bench.place / f"outliers-{factor}", factor)
    folders = {"float": changed}
    for method in ("rtn", "smoothquant"):
        folders[method] = bench.made(changed, "int8", method, 0)
    costs = {name: bench.mean(bench.loss(folder).nats) for name, folder in folders.items()}
    ratios = {
        name: {key: float(np.exp(value)) for key, value in cost.items()}
        for name, cost in costs.items()
    }
    print(f"outliers of {factor}: {ratios}", file=sys.stderr)
    return ratios


def without(found: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != key}


def main() -> None:
    parser = argparse.ArgumentParser(description="What each method of quantization costs.")
    parser.add_argument("--model", help="left out, the bundled model")
    parser.add_argument("--schemes", nargs="+", default=SCHEMES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument("--samples", type=int, default=32, help="calibration runs of 512 tokens")
    given = parser.parse_args()
    folder = resolve_model(given.model)
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None, "The model has no tokenizer.json to read text with."
    texts = default_texts()
    runs = [
        tuple(draw(texts, tokenizer.encode, CalibrationPlan(given.samples, 512, seed)))
        for seed in range(given.seeds)
    ]
    windows = cut(held_out_files(), tokenizer, Protocol(), given.windows)
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(folder, loaded(folder), windows, runs, Path(place))
        schemes = {scheme: compare(bench, scheme) for scheme in given.schemes}
        report = {"windows": len(windows), "seeds": given.seeds, "schemes": schemes}
        print(json.dumps({**report, "outliers": outliers(bench)}))


if __name__ == "__main__":
    main()
