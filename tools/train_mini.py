"""Train vivace-mini or vivace-draft from random initialisation, on the corpus of corpus.py.

The model is the project's own decoder on the torch backend: this program writes a random
checkpoint, opens it as any other, and steps the backend's parameters. Every run is a function of
its preset, seed and threads; a killed run goes on from its last checkpoint when started again.

    python tools/train_mini.py vivace-mini --output runs/vivace-mini

The output folder: `log.jsonl` (a line per report), `state.pt` (to resume from), `best/` (the
checkpoint of the lowest held-out bits per byte, a complete model folder).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import corpus
import numpy as np
import torch
import torch.nn.functional as F
import train_tokenizer
from corpus import Corpus
from safetensors.torch import save_file
from tokenizers import Tokenizer
from training_text import TrainingText

from vivace.backends.protocol import BatchLimits, Program
from vivace.backends.torch import TorchBackend
from vivace.evaluate.bits import bits_per_byte
from vivace.evaluate.corpus import TextFile
from vivace.evaluate.plans import Protocol
from vivace.formats.checkpoint import open_checkpoint
from vivace.models.loader import load_decoder, model_spec, tensor_shapes
from vivace.optimize.distill.memory import keep_freed_memory
from vivace.optimize.distill.optimizer import Optimizer, OptimizerSettings
from vivace.optimize.distill.training import whole_sequences

MAX_POSITIONS = 2048
INITIAL_STD = 0.02
FINISH_RATE = 0.2  # of the highest rate
EVALUATED_CHARACTERS = 8000  # of each held-out file, during training


@dataclass(frozen=True)
class Preset:
    """A model and how it is trained.

    Attributes:
        steps: of `batch_tokens` each; the rate warms up, stays, and falls to zero at the end.
        finish_steps: after these, on text in segments, at FINISH_RATE and falling to zero again.
        lengths: of a training sequence, each from a share of the steps on.
    """

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    steps: int
    finish_steps: int = 150
    batch_tokens: int = 8192
    lengths: tuple[tuple[float, int], ...] = ((0.0, 512), (0.75, 1024), (0.9, MAX_POSITIONS))
    warmup_steps: int = 50
    decay_share: float = 0.5
    report_every: int = 10
    evaluate_every: int = 50

    def config(self) -> dict[str, object]:
        """config.json; both spellings of the rotary base, so that any reader finds it."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": train_tokenizer.VOCABULARY,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": 64,
            "hidden_act": "silu",
            "max_position_embeddings": MAX_POSITIONS,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": True,
            "initializer_range": INITIAL_STD,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "torch_dtype": "bfloat16",
        }

    @property
    def total_steps(self) -> int:
        return self.steps + self.finish_steps

    def schedule(self, step: int) -> float:
        """Share of the highest rate: linear warm-up, flat, linear to zero; then the finish."""
        if step >= self.steps:
            return FINISH_RATE * (self.total_steps - step) / max(self.finish_steps, 1)
        warmup = (step + 1) / self.warmup_steps
        decay = (self.steps - step) / (self.decay_share * self.steps)
        return min(1.0, warmup, decay)

    def length_at(self, step: int) -> int:
        return max(length for share, length in self.lengths if step >= share * self.steps)


PRESETS = {
    "vivace-mini": Preset(512, 768, layers=4, heads=8, kv_heads=2, steps=1200),
    "vivace-draft": Preset(128, 256, layers=3, heads=2, kv_heads=1, steps=1200),
}


class Batches:
    """Sequences of packed documents. Rows of a batch are far apart in the epoch's text."""

    def __init__(self, text: TrainingText, tokenizer: Tokenizer, batch_tokens: int) -> None:
        self._text = text
        self._tokenizer = tokenizer
        self._batch_tokens = batch_tokens
        self.epoch, self.index, self.in_segments = 0, 0, False
        self._tokens = self._read_epoch()

    @property
    def per_epoch(self) -> int:
        return (len(self._tokens) - 1) // self._batch_tokens

    def seek(self, epoch: int, index: int, in_segments: bool) -> None:
        if (epoch, in_segments) != (self.epoch, self.in_segments):
            self.epoch, self.in_segments = epoch, in_segments
            self._tokens = self._read_epoch()
        self.index = index

    def next(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets, [batch_tokens / length, length] each."""
        if self.index == self.per_epoch:
            self.seek(self.epoch + 1, 0, self.in_segments)
        count, columns = self._batch_tokens // length, slice(self.index * length, None)
        self.index += 1
        used = self.per_epoch * self._batch_tokens
        inputs, targets = (self._tokens[i : i + used].reshape(count, -1) for i in (0, 1))
        return inputs[:, columns][:, :length], targets[:, columns][:, :length]

    def _read_epoch(self) -> np.ndarray:
        read = self._text.segments if self.in_segments else self._text.epoch
        encoded = self._tokenizer.encode_batch(read(self.epoch), add_special_tokens=False)
        return np.concatenate([np.array(part.ids, np.int32) for part in encoded])


def write_random_checkpoint(preset: Preset, folder: Path, seed: int) -> None:
    """Normal of INITIAL_STD, less for what is added to the residual; gains are one."""
    generator = torch.Generator().manual_seed(seed)
    depth_scale = (2 * preset.layers) ** -0.5
    tensors = {}
    for name, shape in tensor_shapes(model_spec(preset.config())).items():
        into_residual = "o_proj" in name or "down_proj" in name
        std = INITIAL_STD * (depth_scale if into_residual else 1)
        random = torch.randn(shape, generator=generator) * std
        tensors[name] = random if len(shape) == 2 else torch.ones(shape)
    write_checkpoint(preset, tensors, folder)


def write_checkpoint(preset: Preset, tensors: dict[str, torch.Tensor], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    train_tokenizer.write_json(folder / "config.json", preset.config())


class Training:
    """One run, resumable between any two steps."""

    def __init__(self, preset: Preset, files: Corpus, output: Path, seed: int) -> None:
        self.preset, self.output = preset, output
        self.tokenizer = train_tokenizer.train(file.text for file in files.train)
        self.held_out = [
            TextFile(file.path, file.text[:EVALUATED_CHARACTERS]) for file in files.held_out
        ]
        text = TrainingText(files.train, seed)
        self.batches = Batches(text, self.tokenizer, preset.batch_tokens)
        write_random_checkpoint(preset, output / "initial", seed)
        self.backend = TorchBackend("bfloat16", trainable=True)
        decoder = load_decoder(open_checkpoint(output / "initial"), self.backend)
        tokens = preset.batch_tokens
        limits = BatchLimits(tokens, tokens // preset.lengths[0][1], tokens)
        self.program: Program = self.backend.compile(decoder.logits, (), limits)
        self.optimizer = Optimizer(self.backend.parameters, OptimizerSettings())
        self.step, self.best = 0, float("inf")

    def run(self) -> Iterator[dict[str, object]]:
        """Train to the last step; yields a report every `report_every` steps and, with the
        held-out figure, every `evaluate_every`."""
        losses, started, preset = [], time.monotonic(), self.preset
        while self.step < preset.total_steps:
            losses.append(self._train_step())
            self.step += 1
            if self.step % preset.report_every and self.step != preset.total_steps:
                continue
            now = time.monotonic()
            report = self._report(float(np.mean(losses)), (now - started) / len(losses))
            if self.step % preset.evaluate_every == 0 or self.step == preset.total_steps:
                report |= self._evaluate()
            yield report
            losses, started = [], time.monotonic()

    def save(self) -> None:
        """Written aside and renamed: a kill at any moment leaves a whole file."""
        state = {
            "parameters": self.backend.parameters,
            "optimizer": self.optimizer.state(),
            "progress": (self.step, self.best, self.batches.epoch, self.batches.index),
        }
        torch.save(state, self.output / "state.pt.new")
        (self.output / "state.pt.new").replace(self.output / "state.pt")

    def restore(self) -> None:
        state = torch.load(self.output / "state.pt", weights_only=True)
        with torch.no_grad():
            for name, parameter in self.backend.parameters.items():
                parameter.copy_(state["parameters"][name])
        self.optimizer.restore(state["optimizer"])
        self.step, self.best, epoch, index = state["progress"]
        self.batches.seek(epoch, index, in_segments=self.step > self.preset.steps)

    def write_best(self) -> None:
        """A complete model folder, in bfloat16."""
        folder = self.output / "best"
        tensors = {
            name: parameter.detach().bfloat16()
            for name, parameter in self.backend.parameters.items()
        }
        write_checkpoint(self.preset, tensors, folder)
        train_tokenizer.save(self.tokenizer, folder, MAX_POSITIONS)

    def _train_step(self) -> float:
        if self.step == self.preset.steps:
            self.batches.seek(self.batches.epoch + 1, 0, in_segments=True)
            self.best = float("inf")  # what the finish teaches does not show in the held-out bits
        inputs, targets = self.batches.next(self.preset.length_at(self.step))
        logits = self.program.run(whole_sequences(inputs))
        expected = torch.tensor(targets.reshape(-1), dtype=torch.int64)
        loss = F.cross_entropy(logits, expected)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.backend.parameters.values(), 1.0)
        self.optimizer.step(self.preset.schedule(self.step))
        return float(loss.detach())

    def _report(self, loss: float, seconds_per_step: float) -> dict[str, object]:
        return {
            "step": self.step,
            "of": self.preset.total_steps,
            "epoch": round(self.batches.epoch + self.batches.index / self.batches.per_epoch, 2),
            "loss": round(loss, 4),
            "rate": round(self.preset.schedule(self.step), 3),
            "seconds_per_step": round(seconds_per_step, 3),
            "minutes_left": round((self.preset.total_steps - self.step) * seconds_per_step / 60, 1),
        }

    def _evaluate(self) -> dict[str, object]:
        """Keeps the model when it is the best so far, and the state to resume from."""
        bits = self._held_out_bits()
        if bits < self.best:
            self.best = bits
            self.write_best()
        self.save()
        return {"held_out_bits_per_byte": round(bits, 4)}

    def _held_out_bits(self) -> float:
        """Of each file's beginning, in windows that do not overlap: a fast approximation."""

        def logits(token_ids: list[int]) -> np.ndarray:
            with torch.inference_mode():
                return self.backend.numpy(self.program.run(whole_sequences(np.array([token_ids]))))

        protocol = Protocol(context=1024, stride=1024)
        encode = lambda text: self.tokenizer.encode(text).ids  # noqa: E731
        return bits_per_byte(logits, encode, self.held_out, protocol).value


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a bundled model.")
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("--output", type=Path, required=True, help="folder; resumes if it has one")
    parser.add_argument("--steps", type=int, help="instead of the preset's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    keep_freed_memory()
    preset = PRESETS[arguments.preset]
    preset = replace(preset, steps=arguments.steps or preset.steps)
    training = Training(preset, corpus.load(), arguments.output, arguments.seed)
    if (arguments.output / "state.pt").exists():
        training.restore()
    for report in training.run():
        line = json.dumps(report)
        with (arguments.output / "log.jsonl").open("a") as log:
            log.write(line + "\n")
        print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
