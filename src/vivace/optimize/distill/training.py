"""Steps of a student on the torch backend: resumable between any two of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vivace.backends.protocol import Batch, BatchLimits, DTypeName
from vivace.backends.torch import TorchBackend
from vivace.formats.checkpoint import Checkpoint
from vivace.models.decoder import Decoder
from vivace.models.loader import load_decoder
from vivace.optimize.distill.batches import Batches
from vivace.optimize.distill.loss import distillation_loss
from vivace.optimize.distill.optimizer import Optimizer, OptimizerSettings
from vivace.optimize.plans import TrainingPlan

Run: TypeAlias = Callable[[NDArray[np.int32]], Tensor]  # token ids [runs, length] to logits
# Token ids [runs, length] and a student's logits there [runs * length, vocab] to its mean loss.
Objective: TypeAlias = Callable[[NDArray[np.int32], Tensor], Tensor]

CHUNK_TOKENS = 2048  # whose logits are held at a time
WARMUP_SHARE = 0.05
GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class Student:
    """A model whose parameters can be trained, float32 by their checkpoint names."""

    parameters: dict[str, Tensor]
    run: Run


def load_student(checkpoint: Checkpoint, dtype: DTypeName) -> Student:
    backend = TorchBackend(dtype, trainable=True)
    run = _program(load_decoder(checkpoint, backend), backend)
    return Student(backend.parameters, run)


def teacher_of(checkpoint: Checkpoint, dtype: DTypeName, temperature: float) -> Objective:
    """What a student loses against this model."""
    backend = TorchBackend(dtype)
    teacher = _program(load_decoder(checkpoint, backend), backend)

    def loss(token_ids: NDArray[np.int32], logits: Tensor) -> Tensor:
        return distillation_loss(logits, teacher(token_ids), temperature)

    return loss


class Training:
    """Updates a student's parameters in place."""

    def __init__(
        self, student: Student, objective: Objective, batches: Batches, plan: TrainingPlan
    ) -> None:
        self._student = student
        self._objective = objective
        self._batches = batches
        self._plan = plan
        rates = OptimizerSettings(plan.matrix_rate, plan.vector_rate, weight_decay=0.0)
        self._optimizer = Optimizer(student.parameters, rates)
        self.done = 0

    def step(self) -> float:
        """Read a batch and update; returns the mean loss of its tokens, in nats."""
        runs = self._batches.at(self.done)
        at_once = max(CHUNK_TOKENS // runs.shape[1], 1)
        total = 0.0
        for start in range(0, len(runs), at_once):
            chunk = runs[start : start + at_once]
            share = len(chunk) / len(runs)
            loss = self._objective(chunk, self._student.run(chunk)) * share
            torch.autograd.backward(loss)
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self._student.parameters.values(), GRADIENT_NORM)
        self._optimizer.step(schedule(self.done, self._plan.steps))
        self.done += 1
        return total

    def save(self, path: Path) -> None:
        """Written aside and renamed: an end at any moment leaves a whole file."""
        state = {
            "parameters": self._student.parameters,
            "optimizer": self._optimizer.state(),
            "done": self.done,
        }
        passing = path.with_name(f"{path.name}.part")
        torch.save(state, passing)
        passing.replace(path)

    def restore(self, path: Path) -> None:
        """Go on from what `save` wrote."""
        state = torch.load(path, weights_only=True)
        with torch.no_grad():
            for name, parameter in self._student.parameters.items():
                parameter.copy_(state["parameters"][name])
        self._optimizer.restore(state["optimizer"])
        self.done = state["done"]


def schedule(step: int, steps: int) -> float:
    """Share of the highest rate: linear warm-up, then linear to zero."""
    warmup = max(WARMUP_SHARE * steps, 1)
    return min((step + 1) / warmup, (steps - step) / max(steps - warmup, 1), 1.0)


def whole_sequences(token_ids: NDArray[np.int32]) -> Batch:
    """A batch without pages of [runs, length] tokens; logits of every row."""
    count, length = token_ids.shape
    rows = np.arange(count * length, dtype=np.int32)
    return Batch(
        token_ids=np.ascontiguousarray(token_ids, np.int32).reshape(-1),
        positions=rows % length,
        query_starts=np.arange(count + 1, dtype=np.int32) * length,
        context_lens=np.full(count, length, np.int32),
        block_tables=(),
        logit_rows=rows,
    )


def _program(decoder: Decoder, backend: TorchBackend) -> Run:
    program = backend.compile(decoder.logits, (), BatchLimits(1, 1, 1))  # eager: without limits
    return lambda token_ids: program.run(whole_sequences(token_ids))
