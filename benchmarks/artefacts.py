"""Artefacts of `vivace quantize` in Transformers and in vLLM: do they see the same model?

    python benchmarks/artefacts.py [--schemes int4-g128-a16 ...]

Takes some minutes, and installs vLLM into build/peers the first time; prints one JSON object. In
Transformers every weight must be the number that vivace has, or that number in bfloat16. `distance`
is how far an engine is from vivace on the same checkpoint: the root mean square of the difference
of logits over that of the logits for Transformers, the mean difference of a token's cost in nats
for vLLM. Beside it stands `changed`, how far the artefact is from the original model by the same
measure, and the same of the original model, which both compute in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from peers.environments import PEERS, AbsentError, Peer, install, run
from quantization import loaded

from vivace.backends.cpu import CpuBackend
from vivace.evaluate.corpus import held_out_files
from vivace.evaluate.divergence import log_probabilities, negative_log_likelihood
from vivace.formats.checkpoint import open_checkpoint
from vivace.formats.hub import resolve_model
from vivace.hardware.machine import detect
from vivace.optimize.calibrate import default_texts, draw
from vivace.optimize.plans import CalibrationPlan
from vivace.optimize.quantize.run import Job, quantize
from vivace.text.tokenizer import load_tokenizer

WORKER = Path(__file__).parent / "workers" / "logits_worker.py"
CASES = (
    ("int4-g128-a16", "gptq"),
    ("int4-g128-zp-a16", "awq"),
    ("int8", "smoothquant"),
    ("int3-g128", "gptq"),
)
TOKENS = 400


def made(folder: Path, place: Path, scheme: str, method: str) -> Path:
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None, "The model has no tokenizer.json to read text with."
    runs = tuple(draw(default_texts(), tokenizer.encode, CalibrationPlan(16, 512)))
    out = place / f"{scheme}-{method}"
    backend = CpuBackend("bfloat16", detect().cores)
    quantize(Job(folder.name, folder, out, scheme, method, backend, runs)).artefact.publish()
    return out


def read_by(
    engine: str, folder: Path, tokens: list[int], peer: Peer | None = None
) -> dict[str, Any]:
    """What another engine makes of a checkpoint; why not, where it cannot.

    Args:
        peer: in whose environment it is; None is the engine's own.
    """
    with tempfile.TemporaryDirectory() as place:
        given, out = Path(place) / "tokens.json", Path(place) / "out.npz"
        given.write_text(json.dumps(tokens))
        python = (peer or PEERS[engine]).python
        command = [str(python), str(WORKER), engine, str(folder), str(given)]
        try:
            run([*command, str(out)])
            return dict(np.load(out))
        except (AbsentError, subprocess.CalledProcessError) as error:
            return {"error": str(error).strip()[-300:]}


def same_weights(folder: Path, theirs: dict[str, Any]) -> bool:
    tensors = open_checkpoint(folder).tensors
    names = [name for name in theirs if "_proj" in name]
    return bool(names) and all(_same(tensors.get(n).to_float32(), theirs[n]) for n in names)


def _same(ours: np.ndarray, theirs: np.ndarray) -> bool:
    narrow = ours.astype(ml_dtypes.bfloat16).astype(np.float32)
    return bool(((ours == theirs) | (narrow == theirs)).all())


@dataclass(frozen=True)
class Outputs:
    """Logits [tokens, vocab] of one model, and what each token after the first costs."""

    logits: NDArray[np.float32]
    nll: NDArray[np.float64]

    @staticmethod
    def of(folder: Path, tokens: list[int]) -> Outputs:
        logits = loaded(folder).logits(tokens)
        return Outputs(logits, negative_log_likelihood(log_probabilities(logits[:-1]), tokens[1:]))

    def from_logits(self, logits: NDArray[np.float32]) -> float:
        squares = np.square(logits - self.logits).mean() / np.square(self.logits).mean()
        return float(np.sqrt(squares))

    def from_nll(self, nll: NDArray[np.float64]) -> float:
        return float(np.abs(nll - self.nll).mean())


def distances(folder: Path, original: Path, tokens: list[int]) -> dict[str, Any]:
    """Of each engine from vivace, and of vivace on the artefact from itself on the original."""
    ours, before = Outputs.of(folder, tokens), Outputs.of(original, tokens)
    theirs = {engine: read_by(engine, folder, tokens) for engine in ("transformers", "vllm")}
    found = dict(theirs)
    if "error" not in theirs["transformers"]:
        found["transformers"] = {
            "distance": ours.from_logits(theirs["transformers"]["logits"]),
            "changed": ours.from_logits(before.logits),
            "same_weights": same_weights(folder, theirs["transformers"]),
        }
    if "error" not in theirs["vllm"]:
        distance, changed = (ours.from_nll(nll) for nll in (theirs["vllm"]["nll"], before.nll))
        found["vllm"] = {"distance": distance, "changed": changed}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Our artefacts in Transformers and vLLM.")
    parser.add_argument("--schemes", nargs="+", default=[scheme for scheme, _ in CASES])
    given = parser.parse_args()
    try:
        install("vllm")
    except AbsentError as error:
        print(json.dumps({"absent": str(error)}))
        return
    folder = resolve_model(None)
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    tokens = tokenizer.encode(held_out_files()[0].text)[:TOKENS]
    report = {"original": distances(folder, folder, tokens)}
    with tempfile.TemporaryDirectory() as place:
        for scheme, method in CASES:
            if scheme in given.schemes:
                out = made(folder, Path(place), scheme, method)
                report[scheme] = distances(out, folder, tokens)
                print(f"{scheme}: {report[scheme]}", file=sys.stderr)
    print(json.dumps({"tokens": len(tokens), "models": report}))


if __name__ == "__main__":
    main()
