"""Train vivace-recall, a decoder of two layers that does one thing: it reads pairs of a key and a
value, and gives the value of each key that comes again (vivace.evaluate.pairs).

    python tools/train_recall.py [--output benchmarks/models/vivace-recall]

Takes some minutes on two cores. Sequences get longer as the model learns: given many pairs at once,
it does not find out for long that a look back at a key's place answers the question. Writes a
complete model folder in bfloat16, with training.json about the run.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from train_tokenizer import write_json

from vivace.backends.protocol import BatchLimits
from vivace.backends.torch import TorchBackend
from vivace.evaluate.pairs import VOCABULARY, Pairs
from vivace.formats.checkpoint import open_checkpoint
from vivace.models.loader import load_decoder, model_spec, tensor_shapes
from vivace.optimize.distill.optimizer import Optimizer, OptimizerSettings
from vivace.optimize.distill.training import whole_sequences

OUTPUT = Path(__file__).parent.parent / "benchmarks" / "models" / "vivace-recall"
STEPS, BATCH_TOKENS = 600, 2048
FEWEST, MOST = 4, 192  # pairs of a sequence, at first and at last
LEARNED, GROWTH = 0.7, 1.25  # from this share of right answers on, sequences get so much longer
QUESTIONS = 64  # of a sequence, at most
WARMUP_STEPS, DECAY_SHARE = 50, 0.4
INITIAL_STD = 0.02
REPORT_EVERY = 50
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "hidden_act": "silu",
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e5,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def pairs_after(pairs: int, right: float) -> int:
    """Of the next step's sequences, where so many were answered rightly."""
    return pairs if right < LEARNED else min(MOST, math.ceil(GROWTH * pairs))


def schedule(step: int, steps: int) -> float:
    """Share of the highest rates: linear warm-up, flat, linear to zero."""
    return min(1.0, (step + 1) / WARMUP_STEPS, (steps - step) / (DECAY_SHARE * steps))


def draw_batch(rng: np.random.Generator, pairs: int) -> tuple[NDArray[np.int32], int]:
    """Sequences [n, length] of pairs and questions, and where in each the questions begin."""
    questions = min(pairs, QUESTIONS)
    length = 2 * (pairs + questions)
    drawn = [Pairs.draw(rng, pairs, questions) for _ in range(BATCH_TOKENS // length)]
    return np.stack([np.concatenate([one.context, one.answers]) for one in drawn]), 2 * pairs


def answered(
    logits: torch.Tensor, tokens: NDArray[np.int32], first: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits behind each key asked for, [questions, vocab], and the values that come next."""
    rows = logits.unflatten(0, tokens.shape)[:, first::2].flatten(0, 1)
    return rows, torch.tensor(tokens[:, first + 1 :: 2].reshape(-1), dtype=torch.int64)


def write_random(folder: Path, seed: int) -> None:
    """Normal of INITIAL_STD, less for what is added to the residual; gains are one."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in tensor_shapes(model_spec(CONFIG)).items():
        into_residual = "o_proj" in name or "down_proj" in name
        std = INITIAL_STD * (0.5 if into_residual else 1)
        random = std * torch.randn(shape, generator=generator)
        tensors[name] = random if len(shape) == 2 else torch.ones(shape)
    write_model(folder, tensors)


def write_model(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", CONFIG)


def train(folder: Path, steps: int, seed: int) -> Iterator[dict[str, float]]:
    """Yields a report every REPORT_EVERY steps; then the folder has the trained model."""
    write_random(folder, seed)
    backend = TorchBackend("float32", trainable=True)
    decoder = load_decoder(open_checkpoint(folder), backend)
    limits = BatchLimits(BATCH_TOKENS, BATCH_TOKENS // (4 * FEWEST), BATCH_TOKENS)
    program = backend.compile(decoder.logits, (), limits)
    optimizer = Optimizer(backend.parameters, OptimizerSettings())
    rng, pairs = np.random.default_rng(seed), FEWEST
    for step in range(steps):
        tokens, first = draw_batch(rng, pairs)
        rows, values = answered(program.run(whole_sequences(tokens)), tokens, first)
        loss = F.cross_entropy(rows, values)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(backend.parameters.values(), 1.0)
        optimizer.step(schedule(step, steps))
        right = float((rows.argmax(-1) == values).float().mean())
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == steps:
            yield {"step": step + 1, "pairs": pairs, "loss": float(loss.detach()), "right": right}
        pairs = pairs_after(pairs, right)
    tensors = {name: values.detach().bfloat16() for name, values in backend.parameters.items()}
    write_model(folder, tensors)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the model of the recall task.")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)  # so small a model gains nothing by more, and sums keep their order
    started, report = time.monotonic(), {}
    for report in train(given.output, given.steps, given.seed):
        seconds = round(time.monotonic() - started, 1)
        print(json.dumps(report | {"seconds": seconds}), file=sys.stderr, flush=True)
    facts = {"steps": given.steps, "batch_tokens": BATCH_TOKENS, "pairs": MOST, "seed": given.seed}
    write_json(given.output / "training.json", facts | {"right": report["right"]})


if __name__ == "__main__":
    main()
