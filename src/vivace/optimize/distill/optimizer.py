"""AdamW for vectors and tables, Muon for the matrices between them, in one optimizer.

Muon: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon: the update of a matrix is
its momentum, made nearly orthogonal by five steps of a quintic Newton-Schulz iteration.
AdamW: Loshchilov and Hutter, https://arxiv.org/abs/1711.05101.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ_STEPS = 5


@dataclass(frozen=True)
class OptimizerSettings:
    """Learning rates are the highest of the schedule; decay is decoupled, matrices alone."""

    matrix_rate: float = 0.02
    adam_rate: float = 3e-3
    weight_decay: float = 0.1
    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8


class Optimizer:
    """Updates parameters by name, in place. Tables (embeddings) and vectors get AdamW."""

    def __init__(self, parameters: Mapping[str, Tensor], settings: OptimizerSettings) -> None:
        self._parameters = parameters
        self._settings = settings
        self._steps = 0
        self._moments = {name: self._new_moments(name) for name in parameters}

    @torch.no_grad()
    def step(self, schedule: float) -> None:
        """One update at `schedule` (0 to 1) of the highest rates, then clear the gradients."""
        self._steps += 1
        for name, parameter in self._parameters.items():
            gradient = parameter.grad
            if gradient is None:
                raise ValueError(f"{name} has no gradient; the loss does not depend on it.")
            if self._is_matrix(name):
                self._muon(parameter, gradient, self._moments[name][0], schedule)
            else:
                self._adam(parameter, gradient, self._moments[name], schedule)
            parameter.grad = None

    def state(self) -> dict[str, Any]:
        return {"steps": self._steps, "moments": self._moments}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._steps, self._moments = state["steps"], state["moments"]

    def _is_matrix(self, name: str) -> bool:
        return self._parameters[name].ndim == 2 and "embed" not in name

    def _new_moments(self, name: str) -> tuple[Tensor, ...]:
        count = 1 if self._is_matrix(name) else 2
        return tuple(torch.zeros_like(self._parameters[name]) for _ in range(count))

    def _muon(self, parameter: Tensor, gradient: Tensor, momentum: Tensor, schedule: float) -> None:
        settings = self._settings
        momentum.lerp_(gradient, 1 - settings.momentum)
        update = orthogonalize(gradient.lerp(momentum, settings.momentum))
        rows, columns = parameter.shape
        rate = schedule * settings.matrix_rate
        parameter.mul_(1 - rate * settings.weight_decay)
        parameter.add_(update, alpha=-rate * max(1.0, rows / columns) ** 0.5)

    def _adam(
        self, parameter: Tensor, gradient: Tensor, moments: tuple[Tensor, ...], schedule: float
    ) -> None:
        settings = self._settings
        first, second = moments
        beta1, beta2 = settings.betas
        first.lerp_(gradient, 1 - beta1)
        second.lerp_(gradient.square(), 1 - beta2)
        scale = (second / (1 - beta2**self._steps)).sqrt_().add_(settings.epsilon)
        rate = schedule * settings.adam_rate / (1 - beta1**self._steps)
        parameter.addcdiv_(first, scale, value=-rate)


def orthogonalize(matrix: Tensor) -> Tensor:
    """A matrix of the same singular vectors whose singular values are near 1, in float32."""
    a, b, c = _NEWTON_SCHULZ
    x = matrix.bfloat16()
    if tall := x.shape[0] > x.shape[1]:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(_NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).float()
