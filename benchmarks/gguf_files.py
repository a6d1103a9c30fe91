"""GGUF files beside llama.cpp's: what each costs at equal size, and who computes them truer.

    python benchmarks/gguf_files.py [--model MODEL] [--windows N] [--seeds N]

Takes about ten minutes with the bundled model; prints one JSON object. All figures are KL
divergences in nats per token on windows of the held-out text.

`types`: files of one type by llama.cpp's own quantizer and by `vivace export`, both read by vivace
in float32, from the original model. `plain` reads no text (ours: `search`), `calibrated` does
(ours: `gptq`; llama.cpp's with an importance matrix of the same text), a mean over seeds. `gain` is
what ours saves of theirs, paired window by window.

`engines`: a file of each type that llama.cpp writes, run by llama.cpp and by vivace: how far each
is from the float32 logits of the weights that the file stands for, which the reference computes.

`loads`: our files in llama.cpp: does it read the held-out text in the same tokens, and how often
is its first choice that of vivace in float32?
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers.environments import PEERS, AbsentError, install

from vivace import LLM
from vivace.backends.cpu import CpuBackend
from vivace.evaluate.bootstrap import bootstrap, ratio
from vivace.evaluate.corpus import held_out_files
from vivace.evaluate.plans import Protocol
from vivace.evaluate.scoring import LogitBatches, Window, cut, score
from vivace.formats.checkpoint import open_checkpoint
from vivace.formats.hub import resolve_model
from vivace.hardware.machine import detect
from vivace.models.loader import checked_plan, model_spec
from vivace.optimize.calibrate import TokenIds, default_texts, draw
from vivace.optimize.gguf.export import ExportJob, export
from vivace.optimize.layer import LINEARS, Edited, WorkingLayer
from vivace.optimize.plans import CalibrationPlan
from vivace.optimize.states import HiddenStates
from vivace.text.tokenizer import load_tokenizer

WORKER = Path(__file__).parent / "workers" / "llama_files_worker.py"
TYPES = ("Q4_K_M", "Q4_0", "Q8_0", "Q6_K")
STORED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K_S", "Q4_K_S", "Q5_K_S", "Q6_K")
FLOATS = ("F32", "F16", "BF16")
ENGINE_WINDOWS = 2
PARTS = {  # of llama.cpp's layers, that read the same inputs
    "attention.qkv": ("attn_q", "attn_k", "attn_v"),
    "attention.out": ("attn_output",),
    "mlp.up": ("ffn_gate", "ffn_up"),
    "mlp.down": ("ffn_down",),
}

Sums = NDArray[np.float64]  # of divergences, [windows]


def llama_cpp(*arguments: object) -> None:
    """Run the worker. Raises RuntimeError with its last lines where it fails."""
    command = [str(PEERS["llama.cpp"].python), str(WORKER), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"llama.cpp: {done.stdout.strip()[-500:]}")


def loaded(path: Path, dtype: str = "float32", backend: str = "auto") -> LogitBatches:
    """Each text's rows in one batch, as llama.cpp's are."""
    quiet = {"packed_cache": False, "notify": lambda line: None, "max_model_len": 1024}
    batches = LLM(str(path), dtype=dtype, backend=backend, **quiet).logit_batches
    return lambda token_ids: iter([np.concatenate(list(batches(token_ids)))])


def remembered(model: LogitBatches, windows: Sequence[Window]) -> LogitBatches:
    """A model that is run once on each window."""
    kept = {tuple(window.token_ids): next(model(window.token_ids)) for window in windows}
    return lambda token_ids: iter([kept[tuple(token_ids)]])


@dataclass(frozen=True)
class Bench:
    """What all measurements share."""

    folder: Path
    base: LogitBatches
    windows: Sequence[Window]
    runs: Sequence[tuple[TokenIds, ...]]  # per calibration seed
    place: Path

    def ours(self, file_type: str, method: str, seed: int = 0) -> Path:
        out = self.place / f"ours-{file_type}-{method}-{seed}.gguf"
        backend = CpuBackend("bfloat16", detect().cores)
        name, runs = self.folder.name, self.runs[seed]
        export(ExportJob(name, self.folder, out, file_type, method, backend, runs)).file.publish()
        return out

    def theirs(self, file_type: str, *how: object) -> Path:
        out = self.place / f"theirs-{file_type}-{'-'.join(Path(str(h)).stem for h in how)}.gguf"
        llama_cpp("quantize", self.place / "f32.gguf", out, file_type, *how)
        return out

    def loss(self, path: Path) -> Sums:
        scores = score(loaded(path), self.windows, self.base)
        assert scores.beside is not None
        return np.bincount(scores.windows, weights=scores.beside.kl)

    def mean(self, sums: Sums) -> dict[str, float]:
        tokens = np.asarray([len(window.targets) for window in self.windows])
        return asdict(bootstrap(ratio(sums, tokens), len(self.windows)))


def importance(folder: Path, runs: tuple[TokenIds, ...], out: Path) -> Path:
    """The mean square of what goes into each matrix of the original model, as llama.cpp's tool
    measures it."""
    checkpoint, backend = open_checkpoint(folder), CpuBackend("bfloat16", detect().cores)
    spec = model_spec(checkpoint.config)
    plan, found = checked_plan(spec, checkpoint), {}
    table = checkpoint.tensors.get(plan["embedding"][0].name)
    states = HiddenStates.embedded(backend, table, runs, spec)
    for index in range(len(spec.layers)):
        edited = Edited(checkpoint.tensors)
        layer = WorkingLayer(index, spec, plan, backend, edited, states)
        for name in LINEARS:
            seen = layer.statistics(name)
            for part in PARTS[name]:
                found[f"blk.{index}.{part}.weight"] = np.diag(seen.gram) / seen.count
        layer.advance()
    np.savez(out, **found)
    return out


def compare(bench: Bench, file_type: str, importances: Sequence[Path]) -> dict[str, Any]:
    """Ours and theirs of one type, without text and with it."""
    found: dict[str, Any] = {}
    seeds = range(len(bench.runs))
    made = {
        "plain": ([bench.theirs(file_type)], [bench.ours(file_type, "search")]),
        "calibrated": (
            [bench.theirs(file_type, path) for path in importances],
            [bench.ours(file_type, "gptq", seed) for seed in seeds],
        ),
    }
    for how, (theirs, ours) in made.items():
        losses = [np.mean([bench.loss(p) for p in paths], axis=0) for paths in (theirs, ours)]
        found[how] = {
            "theirs": bench.mean(losses[0]),
            "ours": bench.mean(losses[1]),
            "gain": bench.mean(losses[0] - losses[1]),
            "bytes": [paths[0].stat().st_size for paths in (theirs, ours)],
            "tensor_bytes": [tensor_bytes(paths[0]) for paths in (theirs, ours)],
        }
        figures = {name: found[how][name]["value"] for name in ("theirs", "ours")}
        print(f"{file_type} {how}: {figures}", file=sys.stderr)
    return found


def tensor_bytes(path: Path) -> int:
    tensors = open_checkpoint(path).tensors
    return sum(tensors.nbytes(name) for name in tensors)


def engines(bench: Bench, file_type: str) -> dict[str, float]:
    """How far llama.cpp and vivace are from a file's own float32 logits."""
    path = bench.place / "f32.gguf"
    if file_type not in FLOATS:
        path = bench.theirs(file_type, "pure")
    elif file_type != "F32":
        path = bench.ours(file_type, "search")
    windows = [w for w in bench.windows if len(w.token_ids) == 1024][:ENGINE_WINDOWS]
    exact = remembered(loaded(path, backend="reference"), windows)
    contenders = {
        "llama.cpp": by_llama_cpp(path, windows, bench.place),
        "vivace": loaded(path, dtype="auto"),
        "vivace in float32": loaded(path),
    }
    found = {}
    for name, model in contenders.items():
        beside = score(model, windows, exact).beside
        assert beside is not None
        found[name] = float(beside.kl.mean())
    print(f"{file_type}: {found}", file=sys.stderr)
    return found


def by_llama_cpp(path: Path, windows: Sequence[Window], place: Path) -> LogitBatches:
    given, out = place / "windows.json", place / "logits.npy"
    given.write_text(json.dumps([window.token_ids for window in windows]))
    llama_cpp("logits", path, given, out)
    kept = dict(zip((tuple(w.token_ids) for w in windows), np.load(out), strict=True))
    return lambda token_ids: iter([kept[tuple(token_ids)]])


def loads(bench: Bench, path: Path) -> dict[str, Any]:
    """Our file in llama.cpp."""
    tokenizer = load_tokenizer(bench.folder)
    assert tokenizer is not None
    texts = [file.text for file in held_out_files()]
    given, out = bench.place / "texts.json", bench.place / "tokens.json"
    given.write_text(json.dumps(texts))
    llama_cpp("tokens", path, given, out)
    same = [
        tokenizer.encode(text) == found
        for text, found in zip(texts, json.loads(out.read_text()), strict=True)
    ]
    windows = [w for w in bench.windows if len(w.token_ids) == 1024][:ENGINE_WINDOWS]
    beside = score(by_llama_cpp(path, windows, bench.place), windows, loaded(path)).beside
    assert beside is not None
    return {
        "texts": len(same),
        "same_tokens": sum(same),
        "same_top1": float(beside.same_top1.mean()),
        "kl": float(beside.kl.mean()),
    }


def report(bench: Bench, types: Sequence[str]) -> dict[str, Any]:
    bench.ours("F32", "search").rename(bench.place / "f32.gguf")
    importances = [
        importance(bench.folder, runs, bench.place / f"importance{seed}.npz")
        for seed, runs in enumerate(bench.runs)
    ]
    return {
        "windows": len(bench.windows),
        "seeds": len(bench.runs),
        "types": {kind: compare(bench, kind, importances) for kind in types},
        "engines": {kind: engines(bench, kind) for kind in (*FLOATS, *STORED)},
        "loads": {kind: loads(bench, bench.place / f"ours-{kind}-gptq-0.gguf") for kind in types},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="GGUF files beside llama.cpp's.")
    parser.add_argument("--model", help="left out, the bundled model")
    parser.add_argument("--types", nargs="+", default=TYPES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--samples", type=int, default=32, help="calibration runs of 512 tokens")
    given = parser.parse_args()
    try:
        install("llama.cpp")
    except AbsentError as error:
        print(json.dumps({"absent": str(error)}))
        return
    folder = resolve_model(given.model)
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None, "The model has no tokenizer.json to read text with."
    runs = [
        tuple(draw(default_texts(), tokenizer.encode, CalibrationPlan(given.samples, 512, seed)))
        for seed in range(given.seeds)
    ]
    windows = cut(held_out_files(), tokenizer, Protocol(), given.windows)
    with tempfile.TemporaryDirectory() as place:
        base = remembered(loaded(folder), windows)
        bench = Bench(folder, base, windows, runs, Path(place))
        print(json.dumps(report(bench, given.types)))


if __name__ == "__main__":
    main()
