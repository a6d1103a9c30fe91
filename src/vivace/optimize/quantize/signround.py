"""SignRound: Cheng et al., "Optimize Weight Rounding via Signed Gradient Descent for the
Quantization of LLMs" (2023), which AutoRound is built on. Needs PyTorch.

All linears of a layer are rounded together: each weight may move by up to half a step before it is
rounded, and each group's range may shrink. Both are learnt by the signs of their gradients, so that
the layer's output, with inputs from everything rounded before it, stays that of its floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vivace.backends.protocol import Batch, DTypeName
from vivace.backends.torch import TorchBackend
from vivace.backends.torch.handles import TorchLinear
from vivace.backends.torch.ops import TorchOps
from vivace.formats.qtensor import Scheme
from vivace.models.decoder import DenseWeights, LayerWeights
from vivace.models.loader import WeightReader
from vivace.optimize.layer import WorkingLayer
from vivace.optimize.quantize.grid import Grid, Rounded, code_range, stored_scales
from vivace.optimize.quantize.stored import store

STEPS = 200
BATCH_TOKENS = 4096  # that each step looks at
_SEED = 0  # of the order in which text is looked at
_DTYPE: DTypeName = "bfloat16"  # of products


def sign_round(layer: WorkingLayer, schemes: Mapping[str, Scheme]) -> None:
    """Round the linears of a layer that have a scheme, in place. The hidden states of the text are
    kept twice meanwhile: before the layer and behind its floats."""
    backend = TorchBackend(_DTYPE)
    reader = WeightReader(layer.plan, layer.tensors, backend, layer.spec)
    floats = reader.layer(layer.index, [backend.rotary(each) for each in layer.spec.rotaries])
    learnt = {
        name: _Learnt.of(torch.from_numpy(layer.weights(name)), scheme)
        for name, scheme in schemes.items()
    }
    with torch.no_grad():
        pairs = [(x, layer.part(floats)(_ops(1, len(x)), x)) for x in _runs(layer)]
    for step, (x, expected) in enumerate(_batches(pairs)):
        ops = _ops(len(x) // len(pairs[0][0]), len(pairs[0][0]))
        found = layer.part(_with(floats, learnt))(ops, x)
        loss = torch.nn.functional.mse_loss(found, expected)
        loss.backward()
        for one in learnt.values():
            one.descend((1 - step / STEPS) / STEPS)
    for name, one in learnt.items():
        store(layer, name, one.rounded())


@dataclass(frozen=True)
class _Learnt:
    """A matrix on a grid that is learnt.

    Attributes:
        weights: [out, groups, group size].
        shifts: of the same shape, -0.5 to 0.5 steps, added before rounding.
        shares: [2, out, groups, 1], 0 to 1: of the range's lower and upper end.
    """

    scheme: Scheme
    weights: Tensor
    shifts: Tensor
    shares: Tensor

    @staticmethod
    def of(weights: Tensor, scheme: Scheme) -> _Learnt:
        groups = weights.reshape(len(weights), -1, scheme.group_size or weights.shape[1])
        shares = torch.ones((2, *groups.shape[:2], 1), requires_grad=True)
        return _Learnt(scheme, groups, torch.zeros_like(groups).requires_grad_(), shares)

    @torch.no_grad()
    def descend(self, rate: float) -> None:
        """A step against the signs of the gradients, within bounds."""
        for parameter, bounds in ((self.shifts, (-0.5, 0.5)), (self.shares, (0.0, 1.0))):
            if parameter.grad is not None:
                parameter.sub_(rate * parameter.grad.sign()).clamp_(*bounds)
                parameter.grad = None

    def steps_and_zeros(self) -> tuple[Tensor, Tensor]:
        """As `grid.fit` has them, of the shrunk ranges: [out, groups, 1]."""
        least, greatest = code_range(self.scheme)
        low, high = self.shares
        if not self.scheme.zero_points:
            limit = self.weights.abs().amax(dim=2, keepdim=True) * high
            step = limit / (greatest if self.scheme.bits == 8 else greatest + 0.5)
            return self._stored(step), torch.zeros_like(step)
        bottom = self.weights.amin(dim=2, keepdim=True).clamp(max=0) * low
        top = self.weights.amax(dim=2, keepdim=True).clamp(min=0) * high
        step = self._stored((top - bottom) / (greatest - least))
        zeros = _straight(-bottom / _divisor(step), torch.round)
        return step, zeros.clamp(least, greatest)

    def codes(self, steps: Tensor, zeros: Tensor) -> Tensor:
        wanted = self.weights / _divisor(steps) + self.shifts
        return (_straight(wanted, torch.round) + zeros).clamp(*code_range(self.scheme))

    def values(self) -> Tensor:
        """[out, in]"""
        steps, zeros = self.steps_and_zeros()
        return ((self.codes(steps, zeros) - zeros) * steps).flatten(1)

    def rounded(self) -> Rounded:
        with torch.no_grad():
            steps, zeros = self.steps_and_zeros()
            codes = self.codes(steps, zeros).flatten(1).numpy().astype(np.int16)
            grid = Grid(self.scheme, steps.squeeze(2).numpy(), zeros.squeeze(2).numpy())
        return Rounded(grid, codes)

    def _stored(self, steps: Tensor) -> Tensor:
        def stored(exact: Tensor) -> Tensor:
            return torch.from_numpy(stored_scales(exact.detach().numpy(), self.scheme))

        return _straight(steps, stored)


def _straight(x: Tensor, rounds: Callable[[Tensor], Tensor]) -> Tensor:
    """Rounded on the way forward; on the way back as if it were not."""
    rounded: Tensor = x + (rounds(x) - x).detach()
    return rounded


def _divisor(steps: Tensor) -> Tensor:
    """A group without a range is all zero, by whatever it is divided."""
    return torch.where(steps > 0, steps, torch.ones_like(steps))


def _runs(layer: WorkingLayer) -> list[Tensor]:
    """Of text, as they come into the layer: [tokens of one, hidden_size]."""
    assert layer.states is not None
    size = layer.states.run_len
    return [run for x in layer.states.chunks for run in torch.split(torch.from_numpy(x), size)]


def _batches(pairs: Sequence[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Runs in an order of their own, as many together as a step looks at."""
    count = min(max(BATCH_TOKENS // len(pairs[0][0]), 1), len(pairs))
    rng = np.random.default_rng(_SEED)
    for _ in range(STEPS):
        chosen = [pairs[i] for i in rng.choice(len(pairs), count, replace=False)]
        inputs, outputs = zip(*chosen, strict=True)
        yield torch.cat(inputs), torch.cat(outputs)


def _ops(runs: int, run_len: int) -> TorchOps:
    """Of whole runs, without pages: gradients pass."""
    tokens = runs * run_len
    batch = Batch(
        token_ids=np.zeros(tokens, np.int32),
        positions=np.tile(np.arange(run_len, dtype=np.int32), runs),
        query_starts=np.arange(0, tokens + 1, run_len, dtype=np.int32),
        context_lens=np.full(runs, run_len, np.int32),
        block_tables=(),
        logit_rows=np.zeros(1, np.int32),
    )
    return TorchOps.bind(batch, (), torch.bfloat16, torch.device("cpu"))


def _with(floats: LayerWeights, learnt: Mapping[str, _Learnt]) -> LayerWeights:
    """The layer with matrices on their grids."""

    def linear(name: str, given: TorchLinear) -> TorchLinear:
        return replace(given, parts=(learnt[name].values(),)) if name in learnt else given

    attention, body = floats.attention, floats.mlp.body
    assert isinstance(body, DenseWeights)
    return LayerWeights(
        replace(
            attention,
            qkv=linear("attention.qkv", attention.qkv),
            out=linear("attention.out", attention.out),
        ),
        replace(
            floats.mlp,
            body=replace(body, up=linear("mlp.up", body.up), down=linear("mlp.down", body.down)),
        ),
    )
