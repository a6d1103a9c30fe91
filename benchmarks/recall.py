"""Recall from long prompts of which only some positions are kept: SnapKV's choice against others.

    python benchmarks/recall.py [--steps 1200] [--pairs 120] [--kept 40 64 96] [--model FOLDER]

Trains a small decoder on key-value recall (pairs of a key and a value, then some of the keys again,
each to be followed by its value), or takes one that was trained before, and asks it with pages of
which only `kept` positions are left, plain windows of as many tokens, and all of them:

    snap         the prompt ends with the question, which is in view when positions are chosen
    snap_unseen  the question comes after the choice
    window       the last positions, whatever they hold
    whole        all of them: the limit

Prints one JSON object: the share of questions answered rightly, and by the depth of the pair in
quarters of the prompt.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.backends.protocol import Batch, BatchLimits
from vivace.core.config import EngineConfig
from vivace.core.request import Request
from vivace.core.sampling import SamplingParams
from vivace.core.sight import ALL, Sight
from vivace.engine.build import build_engine
from vivace.engine.core import EngineCore
from vivace.formats.checkpoint import open_checkpoint
from vivace.models.loader import load_decoder, model_spec, tensor_shapes

KEYS, VALUES = 256, 64
BATCH_TOKENS = 8192
RATE = 2e-3
QUARTERS = 4
CONFIG = {
    "model_type": "llama",
    "vocab_size": KEYS + VALUES,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}


@dataclass(frozen=True)
class Task:
    """Pairs, [keys, values] each [pairs], and which of them are asked for, in order."""

    keys: NDArray[np.int32]
    values: NDArray[np.int32]
    asked: NDArray[np.intp]

    @staticmethod
    def draw(rng: np.random.Generator, pairs: int, questions: int) -> Task:
        keys = rng.permutation(KEYS)[:pairs].astype(np.int32)
        values = (KEYS + rng.integers(0, VALUES, pairs)).astype(np.int32)
        return Task(keys, values, rng.permutation(pairs)[:questions])

    @property
    def context(self) -> NDArray[np.int32]:
        return np.stack([self.keys, self.values], axis=1).reshape(-1)

    @property
    def answers(self) -> NDArray[np.int32]:
        """Questions with their answers: key, value, key, value, ..."""
        return np.stack([self.keys[self.asked], self.values[self.asked]], axis=1).reshape(-1)


# --- training ---


def train(folder: Path, steps: int, pairs: int) -> None:
    """Writes a model folder."""
    import torch
    import torch.nn.functional as F

    from vivace.backends.torch import TorchBackend

    torch.manual_seed(0)
    write_model(folder, {name: random_of(shape) for name, shape in shapes().items()})
    backend = TorchBackend("float32", trainable=True)
    decoder = load_decoder(open_checkpoint(folder), backend)
    program = backend.compile(
        decoder.logits, (), BatchLimits(BATCH_TOKENS, BATCH_TOKENS // 8, BATCH_TOKENS)
    )
    optimizer = torch.optim.AdamW(backend.parameters.values(), RATE, weight_decay=0.01)
    rng = np.random.default_rng(0)
    for step in range(steps):
        progress = step / steps
        of_step = int(8 + (pairs - 8) * min(1.0, 2 * progress))  # longer and longer
        tokens, wanted = training_batch(rng, of_step)
        logits = program.run(whole_sequences(tokens))[torch.tensor(wanted.reshape(-1))]
        targets = torch.tensor(np.roll(tokens, -1, axis=1)[wanted], dtype=torch.int64)
        loss = F.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 50, 2 * (1 - progress) + 0.01)
        optimizer.step()
        if step % 50 == 0:
            print(f"{step}: {of_step} pairs, loss {float(loss):.3f}", file=sys.stderr)
    write_model(folder, {name: p.detach().numpy() for name, p in backend.parameters.items()})


def training_batch(
    rng: np.random.Generator, pairs: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Tokens [sequences, length], and the rows whose next token is an answer."""
    tasks = [Task.draw(rng, pairs, pairs) for _ in range(BATCH_TOKENS // (4 * pairs))]
    tokens = np.stack([np.concatenate([task.context, task.answers]) for task in tasks])
    columns = np.arange(4 * pairs)
    wanted = np.broadcast_to((columns >= 2 * pairs) & (columns % 2 == 0), tokens.shape)
    return tokens, wanted


def whole_sequences(tokens: NDArray[np.int32]) -> Batch:
    """A batch without pages; logits of every row."""
    count, length = tokens.shape
    rows = np.arange(count * length, dtype=np.int32)
    starts = np.arange(count + 1, dtype=np.int32) * length
    lengths = np.full(count, length, np.int32)
    return Batch(tokens.reshape(-1), rows % length, starts, lengths, (), rows)


def shapes() -> dict[str, tuple[int, ...]]:
    return tensor_shapes(model_spec(CONFIG))


def random_of(shape: tuple[int, ...]) -> NDArray[np.float32]:
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    rng = np.random.default_rng(shape)
    return (rng.standard_normal(shape) * shape[1] ** -0.5).astype(np.float32)


def write_model(folder: Path, tensors: dict[str, NDArray[np.float32]]) -> None:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file(tensors, folder / "model.safetensors")


# --- asking ---


def hits(core: EngineCore, tasks: Sequence[Task], sight: Sight, unseen: bool) -> NDArray[np.bool_]:
    """Which of the tasks' questions, one each, are answered rightly."""
    params = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True)
    for number, task in enumerate(tasks):
        prompt = [*task.context.tolist(), int(task.answers[0])]
        cut = len(prompt) - 1 if unseen else len(prompt)
        request = Request(str(number), tuple(prompt), params, sight=sight.of_prompt(cut))
        core.add(request)
    right = np.zeros(len(tasks), np.bool_)
    while core.has_work:
        for delta in core.step():
            number = int(delta.request_id)
            right[number] = delta.token_ids == (int(tasks[number].answers[1]),)
    return right


def by_depth(right: NDArray[np.bool_], tasks: Sequence[Task]) -> dict[str, Any]:
    """The share of right answers; and by quarters of the prompt, the oldest first."""
    depths = np.asarray([task.asked[0] * QUARTERS // len(task.keys) for task in tasks])
    quarters = [float(right[depths == quarter].mean()) for quarter in range(QUARTERS)]
    return {"right": float(right.mean()), "by_depth": quarters}


def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    tasks = [Task.draw(rng, given.pairs, 1) for _ in range(given.questions)]
    core = build_engine(EngineConfig(str(folder), backend=given.backend))
    whole = by_depth(hits(core, tasks, ALL, unseen=False), tasks)
    kept = {}
    for count in given.kept:
        found = {
            "snap": hits(core, tasks, Sight(kept=count), unseen=False),
            "snap_unseen": hits(core, tasks, Sight(kept=count), unseen=True),
            "window": hits(core, tasks, Sight(window=count), unseen=False),
        }
        kept[str(count)] = {name: by_depth(right, tasks) for name, right in found.items()}
        print(f"{count}: {kept[str(count)]}", file=sys.stderr)
    tokens = 2 * given.pairs + 1
    return {"tokens": tokens, "questions": given.questions, "whole": whole, "kept": kept}


def main() -> None:
    parser = argparse.ArgumentParser(description="Recall from prompts that are kept in part.")
    parser.add_argument("--model", type=Path, help="a folder; trained into it if it is not there")
    parser.add_argument("--backend", choices=("cpu", "reference", "torch"), default="cpu")
    parser.add_argument("--steps", type=int, default=1200, help="of training")
    parser.add_argument("--pairs", type=int, default=120, help="of a prompt, in training too")
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--kept", type=int, nargs="+", default=[40, 64, 96])
    given = parser.parse_args()
    with TemporaryDirectory() as made:
        folder = given.model or Path(made)
        if not (folder / "config.json").exists():
            train(folder, given.steps, given.pairs)
        print(json.dumps(measure(folder, given)))


if __name__ == "__main__":
    main()
