"""What goes into a linear, on any backend: a forward that ends where the linear would begin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivace.backends.protocol import (
    Activation,
    AttentionSpec,
    Embedding,
    Experts,
    Linear,
    Norm,
    Ops,
    Residual,
    RotaryTable,
    Tensor,
    Vector,
)

Floats: TypeAlias = NDArray[np.float32]
Part: TypeAlias = Callable[[Ops, Tensor], Tensor]  # of a model: hidden states in, and out


@dataclass
class Statistics:
    """Of the inputs of a linear, [rows, in].

    Attributes:
        gram: X'X [in, in].
        abs_sum, abs_max: [in], of |x|.
        count: rows.
    """

    gram: Floats
    abs_sum: NDArray[np.float64]
    abs_max: Floats
    count: int = 0

    @staticmethod
    def of_width(width: int) -> Statistics:
        zeros = np.zeros(width, np.float32)
        return Statistics(np.zeros((width, width), np.float32), np.zeros(width), zeros)

    def add(self, x: Floats) -> None:
        self.gram += x.T @ x
        self.abs_sum += np.abs(x).sum(axis=0)
        self.abs_max = np.maximum(self.abs_max, np.abs(x).max(axis=0))
        self.count += len(x)

    @property
    def abs_mean(self) -> Floats:
        mean: Floats = (self.abs_sum / self.count).astype(np.float32)
        return mean


def input_of(linear: Linear, part: Part) -> Part:
    """The part of a model that ends with the input of one of its linears."""

    def forward(ops: Ops, x: Tensor) -> Tensor:
        try:
            part(Observing(ops, linear), x)
        except _ReachedError as reached:
            return reached.input
        raise AssertionError("The linear is not in this part of the model.")

    return forward


class _ReachedError(Exception):
    def __init__(self, input: Tensor) -> None:
        self.input = input


@dataclass(frozen=True)
class Observing:
    """Ops of a backend, up to one linear."""

    ops: Ops
    linear: Linear

    def embed(
        self, tokens: Embedding, multiplier: float = 1.0, positions: Embedding | None = None
    ) -> Tensor:
        return self.ops.embed(tokens, multiplier, positions)

    def norm(self, x: Tensor, norm: Norm) -> Tensor:
        return self.ops.norm(x, norm)

    def norm_linear(
        self, x: Tensor, norm: Norm | None, linear: Linear, activation: Activation | None = None
    ) -> Tensor:
        if linear is self.linear:
            raise _ReachedError(x if norm is None else self.ops.norm(x, norm))
        return self.ops.norm_linear(x, norm, linear, activation)

    def rotary_write(
        self,
        qkv: Tensor,
        spec: AttentionSpec,
        rotary: RotaryTable | None,
        q_norm: Norm | None = None,
        k_norm: Norm | None = None,
    ) -> Tensor:
        return self.ops.rotary_write(qkv, spec, rotary, q_norm, k_norm)

    def attention(
        self, queries: Tensor, spec: AttentionSpec, sinks: Vector | None = None
    ) -> Tensor:
        return self.ops.attention(queries, spec, sinks)

    def linear_residual(self, x: Tensor, linear: Linear, residual: Residual) -> Tensor:
        if linear is self.linear:
            raise _ReachedError(x)
        return self.ops.linear_residual(x, linear, residual)

    def experts_residual(
        self, x: Tensor, norm: Norm | None, experts: Experts, residual: Residual
    ) -> Tensor:
        return self.ops.experts_residual(x, norm, experts, residual)

    def logits(
        self, hidden: Tensor, head: Linear, multiplier: float = 1.0, softcap: float | None = None
    ) -> Tensor:
        return self.ops.logits(hidden, head, multiplier, softcap)
