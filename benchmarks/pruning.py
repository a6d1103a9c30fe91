"""What pruning costs, what distillation gives back, and how much faster a smaller shape is.

    python benchmarks/pruning.py [--parts weights shape] [--seeds N] [--steps N] [--windows N]

Takes about 20 minutes on two cores with the bundled model, needs PyTorch, and prints one JSON
object. Every model is scored on the same windows of the held-out text; `delta_nll` is what a model
costs beyond the whole one, in nats per token, with the interval of its seeds' mean over windows.

`weights`: half of the layers' weights at zero by each method, and two of each four; zeros counted
from the files. `outliers`: half of them again, in a model with outliers that change nothing in
floats (benchmarks/outliers.py), as larger models have them by themselves. `shape`: a model with a
quarter of its layers cut out; it is distilled, and one of the same shape is trained from random
weights on the same tokens by the same optimizer at the rates that the bundled model was trained at.
`speed`: prompts through both, in turns; what is saved of the time and of the multiplications.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from outliers import inject
from safetensors.torch import save_file

from vivace import LLM, SamplingParams
from vivace.backends.cpu import CpuBackend
from vivace.evaluate.bootstrap import bootstrap, ratio
from vivace.evaluate.corpus import held_out_files
from vivace.evaluate.plans import Protocol
from vivace.evaluate.scoring import Window, cut, score
from vivace.formats.checkpoint import open_checkpoint
from vivace.formats.hub import resolve_model
from vivace.hardware.machine import detect
from vivace.models.loader import model_spec, role_shapes
from vivace.models.spec import ModelSpec
from vivace.optimize.calibrate import TokenIds, default_texts, draw, encoded
from vivace.optimize.distill.batches import Batches
from vivace.optimize.distill.job import DistillJob
from vivace.optimize.distill.loss import next_token_loss
from vivace.optimize.distill.memory import keep_freed_memory
from vivace.optimize.distill.run import distill
from vivace.optimize.distill.training import Training, load_student
from vivace.optimize.evidence import View, size_of
from vivace.optimize.plans import CalibrationPlan, Shape, TrainingPlan
from vivace.optimize.prune.methods import METHODS
from vivace.optimize.prune.pattern import pattern_of
from vivace.optimize.prune.run import Job, prune
from vivace.optimize.prune.structure import StructureJob, prune_structure
from vivace.text.tokenizer import Tokenizer, load_tokenizer

OUTLIERS = 32  # times as large
SMALLER = Shape(layers=3)  # of four
FROM_SCRATCH = {"matrix_rate": 0.02, "vector_rate": 3e-3}  # as the bundled model was trained
INITIAL_STD = 0.02
PROMPT_LEN, PROMPTS, ROUNDS = 1024, 4, 15


@dataclass(frozen=True)
class Bench:
    """What all measurements share."""

    folder: Path
    tokenizer: Tokenizer
    windows: Sequence[Window]
    runs: Sequence[tuple[TokenIds, ...]]  # per calibration seed
    place: Path
    base_nats: NDArray[np.float64]

    def cost(self, *folders: Path) -> dict[str, Any]:
        """Beyond the whole model's, of the mean of some."""
        nats = np.mean([summed(folder, self.windows) for folder in folders], axis=0)
        tokens = np.asarray([len(window.targets) for window in self.windows])
        return asdict(bootstrap(ratio(nats - self.base_nats, tokens), len(self.windows)))

    def backend(self) -> CpuBackend:
        return CpuBackend("bfloat16", detect().cores)


def summed(folder: Path, windows: Sequence[Window]) -> NDArray[np.float64]:
    """Nats of each window."""
    llm = LLM(str(folder), packed_cache=False, notify=lambda line: None, max_model_len=1024)
    scores = score(llm.logit_batches, windows)
    return np.bincount(scores.windows, weights=scores.nats)


def weights(bench: Bench) -> dict[str, Any]:
    """Each method: half of the weights over all seeds; two of each four, and half again with
    outliers, over the first."""
    once = replace(bench, runs=bench.runs[:1])
    changed = inject(bench.folder, bench.place / "outliers", OUTLIERS)
    with_outliers = replace(once, folder=changed, place=bench.place / "with-outliers")
    cases = {"half": (bench, None), "2:4": (once, "2:4"), "outliers": (with_outliers, None)}
    return {
        name: {method: _pruned(where, method, groups) for method in METHODS}
        for name, (where, groups) in cases.items()
    }


def _pruned(bench: Bench, method: str, groups: str | None) -> dict[str, Any]:
    seeds = range(len(bench.runs) if METHODS[method].reads_text else 1)
    folders = [bench.place / f"{method}-{groups}-{seed}" for seed in seeds]
    pattern = pattern_of(None, groups)
    bench.place.mkdir(exist_ok=True)
    for out, runs in zip(folders, bench.runs, strict=False):
        job = Job("model", bench.folder, out, pattern, method, bench.backend(), runs)
        prune(job).artefact.publish()
    found = {
        "delta_nll": bench.cost(*folders),
        "by_seed": [bench.cost(folder)["value"] for folder in folders],
        "zeros": [_zeros(folder) for folder in folders],
        "groups_of_four_with_two": all(_groups_hold(folder) for folder in folders),
    }
    _say(f"{bench.place.name} {pattern} {method}: {found['delta_nll']['value']:.4f} nats")
    return found


def _linears(folder: Path) -> list[NDArray[np.float32]]:
    tensors = open_checkpoint(folder).tensors
    return [tensors.get(name).to_float32() for name in tensors if "_proj." in name]


def _zeros(folder: Path) -> float:
    linears = _linears(folder)
    return sum(float((w == 0).sum()) for w in linears) / sum(w.size for w in linears)


def _groups_hold(folder: Path) -> bool:
    kept = [(w.reshape(-1, 4) != 0).sum(axis=1) for w in _linears(folder)]
    return all(bool((each == 2).all()) for each in kept)


def shape(bench: Bench, plan: TrainingPlan) -> dict[str, Any]:
    """The smaller model before and after distillation, one that never saw the whole one, and their
    speed."""
    cut_out, healed = bench.place / "smaller", bench.place / "healed"
    job = StructureJob("model", bench.folder, cut_out, SMALLER, bench.backend(), bench.runs[0])
    prune_structure(job).artefact.publish()
    speeds = speed(bench.folder, cut_out)
    documents = encoded(default_texts(), bench.tokenizer.encode)
    names = ("model", "smaller")
    distilling = DistillJob(bench.folder, cut_out, names, healed, documents, plan, 1.0, "bfloat16")
    started = perf_counter()
    distill(distilling, _say, _count).artefact.publish()
    seconds = perf_counter() - started
    scratch = _from_scratch(bench, cut_out, documents, replace(plan, **FROM_SCRATCH))
    costs = {
        name: bench.cost(folder)
        for name, folder in (("pruned", cut_out), ("distilled", healed), ("scratch", scratch))
    }
    size = size_of(bench.folder, View(cut_out))
    layers = [_layers_parameters(folder) for folder in (bench.folder, cut_out)]
    return {
        **costs,
        "recovered": 1 - costs["distilled"]["value"] / costs["pruned"]["value"],
        "layers_smaller_by": 1 - layers[1] / layers[0],
        "smaller_by": 1 - size["parameters"] / size["base_parameters"],
        "tokens": plan.steps * plan.batch_tokens,
        "distillation_seconds": seconds,
        "speed": speeds,
        "shape": asdict(SMALLER),
    }


def _layers_parameters(folder: Path) -> int:
    tensors = open_checkpoint(folder).tensors
    return sum(int(np.prod(tensors.shape(name))) for name in tensors if ".layers." in name)


def _from_scratch(
    bench: Bench, like: Path, documents: Sequence[TokenIds], plan: TrainingPlan
) -> Path:
    """Of the same shape and text, from random weights, by the text's own next tokens."""
    student = load_student(open_checkpoint(like), "bfloat16")
    generator = torch.Generator().manual_seed(plan.seed)
    with torch.no_grad():
        for parameter in student.parameters.values():
            if parameter.ndim == 2:
                parameter.normal_(0, INITIAL_STD, generator=generator)
            else:
                parameter.fill_(1)
    batches = Batches(documents, plan.batch_tokens // plan.run_len, plan.run_len, plan.seed)
    training = Training(student, _next_tokens, batches, plan)
    while training.done < plan.steps:
        training.step()
        _count(training.done, plan.steps)
    out = bench.place / "scratch"
    shutil.copytree(like, out, ignore=shutil.ignore_patterns("*.safetensors*"))
    arrays = {name: p.detach().bfloat16() for name, p in student.parameters.items()}
    save_file(arrays, out / "model.safetensors", {"format": "pt"})
    return out


def _next_tokens(token_ids: NDArray[np.int32], logits: torch.Tensor) -> torch.Tensor:
    return next_token_loss(logits, torch.tensor(token_ids, dtype=torch.int64))


def speed(whole: Path, smaller: Path) -> dict[str, float]:
    """Of prompts of PROMPT_LEN tokens: medians of rounds in turns."""
    models = [
        LLM(str(folder), packed_cache=False, notify=_say, enable_prefix_caching=False)
        for folder in (whole, smaller)
    ]
    tokens = np.random.default_rng(0).integers(1, 8192, (PROMPTS, PROMPT_LEN)).tolist()
    once = SamplingParams(max_tokens=1, temperature=0.0, ignore_eos=True)
    prompts = [{"prompt_token_ids": each} for each in tokens]
    seconds: list[list[float]] = [[], []]
    for _ in range(ROUNDS + 1):
        for model, taken in zip(models, seconds, strict=True):
            started = perf_counter()
            model.generate(prompts, once)
            taken.append(perf_counter() - started)
    times = [median(taken[1:]) for taken in seconds]  # the first round warms up
    work = [multiply_adds(model_spec(open_checkpoint(f).config)) for f in (whole, smaller)]
    saved = {"time_saved": 1 - times[1] / times[0], "work_saved": 1 - work[1] / work[0]}
    _say(f"speed: {saved}")
    return {"seconds": times[0], "smaller_seconds": times[1], **saved}


def multiply_adds(spec: ModelSpec) -> int:
    """Of a prompt of PROMPT_LEN tokens and the one that follows."""
    shapes = role_shapes(spec)
    names = ("attention.qkv", "attention.out", "mlp.up", "mlp.down")
    matrices = [
        shape for i in range(len(spec.layers)) for n in names for shape in shapes[f"layers.{i}.{n}"]
    ]
    linears = sum(outputs * inputs for outputs, inputs in matrices)
    pairs = PROMPT_LEN * (PROMPT_LEN + 1) // 2
    attention = sum(2 * s.attention.num_heads * s.attention.head_dim * pairs for s in spec.layers)
    return linears * PROMPT_LEN + attention + spec.vocab_size * spec.hidden_size


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _count(done: int, total: int) -> None:
    if done % 25 == 0:
        _say(f"step {done} of {total}")


def main() -> None:
    parser = argparse.ArgumentParser(description="What pruning costs and distillation gives back.")
    parser.add_argument("--parts", nargs="+", choices=("weights", "shape"), default=None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100, help="of training, 8192 tokens each")
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument("--samples", type=int, default=32, help="calibration runs of 512 tokens")
    given = parser.parse_args()
    folder = resolve_model(None)
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None, "The bundled model has a tokenizer."
    keep_freed_memory()
    runs = [
        tuple(draw(default_texts(), tokenizer.encode, CalibrationPlan(given.samples, 512, seed)))
        for seed in range(given.seeds)
    ]
    windows = cut(held_out_files(), tokenizer, Protocol(), given.windows)
    parts = given.parts or ("weights", "shape")
    report: dict[str, Any] = {"windows": len(windows), "seeds": given.seeds}
    with tempfile.TemporaryDirectory() as place:
        nats = summed(folder, windows)
        bench = Bench(folder, tokenizer, windows, runs, Path(place), nats)
        if "weights" in parts:
            report["weights"] = weights(bench)
        if "shape" in parts:
            report["shape"] = shape(bench, TrainingPlan(steps=given.steps))
        print(json.dumps(report))


if __name__ == "__main__":
    main()
