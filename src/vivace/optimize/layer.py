"""One layer while it is made smaller: its weights as floats until each has its final form, and what
goes into its linears, given everything that was changed before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from vivace.backends.protocol import Backend, Linear, Ops, Tensor
from vivace.formats.qtensor import Array, QTensor
from vivace.models.decoder import DenseWeights, LayerWeights, attend, transform
from vivace.models.loader import TensorSource, WeightReader
from vivace.models.spec import MLPSpec, ModelSpec
from vivace.models.weights import Plan, Source
from vivace.optimize.observe import Floats, Part, Statistics, input_of
from vivace.optimize.states import HiddenStates, LayerStates

LINEARS = ("attention.qkv", "attention.out", "mlp.up", "mlp.down")  # in the order of the forward


@dataclass(frozen=True)
class Edited:
    """A checkpoint's tensors, some of them changed."""

    tensors: TensorSource
    changed: dict[str, QTensor] = field(default_factory=dict)

    def get(self, name: str) -> QTensor:
        found = self.changed.get(name)
        return self.tensors.get(name) if found is None else found

    def release(self) -> None:
        self.tensors.release()


@dataclass
class WorkingLayer:
    """Attributes:
    states: the hidden states before the layer; None where a method looks at no text.
    final: arrays to store in the place of a tensor, by its name, where it is no longer floats.
    finer: what a nested tensor lacks in 4 bits, likewise, for files of their own.
    """

    index: int
    spec: ModelSpec
    plan: Plan
    backend: Backend
    tensors: Edited
    states: HiddenStates | None = None
    final: dict[str, Mapping[str, Array]] = field(default_factory=dict)
    finer: dict[str, Mapping[str, Array]] = field(default_factory=dict)

    @property
    def mlp(self) -> MLPSpec:
        mlp = self.spec.layers[self.index].mlp
        assert isinstance(mlp, MLPSpec)  # mixtures of experts were refused
        return mlp

    def role(self, name: str) -> str:
        return f"layers.{self.index}.{name}"

    def has(self, name: str) -> bool:
        return self.role(name) in self.plan

    def weights(self, name: str) -> Floats:
        """The parts of a role [out_i, in] (or vectors [out_i]) together, in floats."""
        return np.concatenate([self._float(source) for source in self._sources(name)])

    def replace(self, name: str, values: Floats) -> None:
        """Other floats in the place of a role's."""
        for source, rows in self.split(name):
            self.tensors.changed[source.name] = QTensor.from_array(source.name, values[rows])

    def split(self, name: str) -> Iterator[tuple[Source, slice]]:
        """The parts of a role, and their rows of the whole."""
        start = 0
        for source in self._sources(name):
            end = start + source.view_shape[0]
            yield source, slice(start, end)
            start = end

    def statistics(self, name: str) -> Statistics:
        """Of what goes into a linear, over all calibration text."""
        weights = self.handles()
        seen = Statistics.of_width(self.weights(name).shape[1])
        for x in self._states().outputs(input_of(_linear(weights, name), self.part(weights))):
            seen.add(x)
        return seen

    def block_outputs(self, name: str, chunks: int) -> Iterator[Floats]:
        """What the half of the layer that a linear stands in makes of some of the text."""
        weights = self.handles()
        half = self._attention(weights) if name.startswith("attention") else self.part(weights)
        return self._states().outputs(half, chunks)

    def advance(self) -> None:
        """The hidden states become those after the layer, as it is now."""
        self._states().advance(self.part(self.handles()))

    def handles(self) -> LayerWeights:
        reader = WeightReader(self.plan, self.tensors, self.backend, self.spec)
        rotaries = [self.backend.rotary(rotary) for rotary in self.spec.rotaries]
        return reader.layer(self.index, rotaries)

    def part(self, weights: LayerWeights) -> Part:
        """The whole layer."""
        first, multiplier = self._attention(weights), self.spec.residual_multiplier

        def run(ops: Ops, x: Tensor) -> Tensor:
            return transform(ops, weights.mlp, first(ops, x), multiplier)

        return run

    def _attention(self, weights: LayerWeights) -> Part:
        spec, multiplier = self._states().spec, self.spec.residual_multiplier
        return lambda ops, x: attend(ops, spec, weights.attention, x, multiplier)

    def _states(self) -> LayerStates:
        assert self.states is not None
        return self.states.through(self.spec.layers[self.index], self.spec.kv_groups)

    def _sources(self, name: str) -> tuple[Source, ...]:
        return self.plan[self.role(name)]

    def _float(self, source: Source) -> Floats:
        return source.view(self.tensors.get(source.name)).to_float32()


def _linear(weights: LayerWeights, name: str) -> Linear:
    body = weights.mlp.body
    assert isinstance(body, DenseWeights)
    return {
        "attention.qkv": weights.attention.qkv,
        "attention.out": weights.attention.out,
        "mlp.up": body.up,
        "mlp.down": body.down,
    }[name]
