"""Others' quantizers beside ours: int4 in symmetric groups of 128, from the same calibration text.

    python benchmarks/quantizers.py [--samples N] [--seeds N] [--windows N] [--loads]

Takes about twenty minutes; installs llm-compressor, which brings auto-round, into build/peers the
first time; prints one JSON object. Every checkpoint is loaded and scored by vivace on the same
windows of the held-out text, beside the original in bfloat16; `kl` is a mean over calibration
seeds, `gain` what our nearest method saves of theirs, paired window by window.

With --loads, `loads` instead: how far Transformers is from vivace on a checkpoint that the others
wrote: the root mean square of the difference of logits over that of the logits, activations in
floating point in both; `original` is the same of the original model.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from artefacts import Outputs, read_by
from peers.environments import PEERS, AbsentError, install, run
from quantization import Bench, loaded

from vivace.evaluate.corpus import held_out_files
from vivace.evaluate.plans import Protocol
from vivace.evaluate.scoring import cut
from vivace.formats.hub import resolve_model
from vivace.optimize.calibrate import default_texts, draw
from vivace.optimize.evidence import View, size_of
from vivace.optimize.plans import CalibrationPlan
from vivace.text.tokenizer import load_tokenizer

WORKER = Path(__file__).parent / "workers" / "quantizers_worker.py"
SCHEME = "int4-g128-a16"
OURS = {"gptq": "gptq", "awq": "awq", "auto-round": "signround"}  # by theirs, the nearest
LAYOUTS = {
    "gptq": ("compressed-tensors",),
    "awq": ("compressed-tensors",),
    "auto-round": ("gptq", "awq"),
}
TOKENS = 400


@dataclass(frozen=True)
class Others:
    """What others' tools made of the model, by method and seed."""

    bench: Bench

    def made(self, method: str, seed: int) -> Path:
        """The folder of its layouts. Raises AbsentError where the tool fails."""
        out = self.bench.place / f"others-{method}-{seed}"
        if not out.exists():
            runs = self.bench.place / f"runs-{seed}.npy"
            np.save(runs, np.stack(self.bench.runs[seed]))
            command = [str(PEERS["llm-compressor"].python), str(WORKER), method]
            run([*command, str(self.bench.folder), str(runs), str(out)])
        return out


def compare(bench: Bench, others: Others, method: str) -> dict[str, Any]:
    """Their method beside our nearest one, over seeds."""
    seeds = range(len(bench.runs))
    folders = {
        "theirs": [others.made(method, seed) / LAYOUTS[method][0] for seed in seeds],
        "ours": [bench.made(bench.folder, SCHEME, OURS[method], seed) for seed in seeds],
    }
    losses = {who: [bench.loss(folder).kl for folder in each] for who, each in folders.items()}
    sums = {who: np.mean(each, axis=0) for who, each in losses.items()}
    found = {
        "against": OURS[method],
        "theirs": bench.mean(sums["theirs"]),
        "ours": bench.mean(sums["ours"]),
        "gain": bench.mean(sums["theirs"] - sums["ours"]),
        "bits": {
            who: size_of(bench.folder, View(each[0]))["bits_per_quantized_weight"]
            for who, each in folders.items()
        },
    }
    print(f"{method}: {found}", file=sys.stderr)
    return found


def compared(bench: Bench, others: Others) -> dict[str, Any]:
    return {method: compare(bench, others, method) for method in OURS}


def loads(bench: Bench, others: Others, tokens: list[int]) -> dict[str, Any]:
    """Each layout of others in vivace and in Transformers."""
    folders = {"original": bench.folder}
    for method, layouts in LAYOUTS.items():
        for layout in layouts:
            folders[f"{method} as {layout}"] = others.made(method, 0) / layout
    found = {}
    for name, folder in folders.items():
        theirs = read_by("transformers", folder, tokens, PEERS["llm-compressor"])
        found[name] = theirs
        if "error" not in theirs:
            found[name] = {"distance": Outputs.of(folder, tokens).from_logits(theirs["logits"])}
        print(f"{name}: {found[name]}", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Others' quantizers beside ours.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument("--samples", type=int, default=32, help="calibration runs of 512 tokens")
    parser.add_argument("--loads", action="store_true", help="only whether theirs load")
    given = parser.parse_args()
    try:
        install("llm-compressor")
    except AbsentError as error:
        print(json.dumps({"absent": str(error)}))
        return
    folder = resolve_model(None)
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    runs = [
        tuple(draw(default_texts(), tokenizer.encode, CalibrationPlan(given.samples, 512, seed)))
        for seed in range(given.seeds)
    ]
    windows = cut(held_out_files(), tokenizer, Protocol(), given.windows)
    tokens = tokenizer.encode(held_out_files()[0].text)[:TOKENS]
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(folder, loaded(folder), windows, runs, Path(place))
        others = Others(bench)
        print(
            json.dumps(
                {
                    "samples": given.samples,
                    "seeds": given.seeds,
                    "windows": len(windows),
                    "methods": {} if given.loads else compared(bench, others),
                    "loads": loads(bench, others, tokens) if given.loads else {},
                }
            )
        )


if __name__ == "__main__":
    main()
