"""From a recorded forward to a native program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatchmethod
from typing import Any

from vivace.backends.cpu import _native
from vivace.backends.cpu.planning import Plan
from vivace.backends.cpu.recording import (
    Attention,
    Embed,
    ExpertsResidual,
    LinearResidual,
    Logits,
    Normalize,
    NormLinear,
    Record,
    RotaryWrite,
    Value,
)
from vivace.backends.protocol import Activation, AttentionSpec, Experts, Norm


def lower(records: Sequence[Record], plan: Plan, program: _native.Program) -> None:
    """Add every record to the native program, in order."""
    lowering = Lowering(plan, program)
    for record in records:
        lowering.add(record)


def place_of(plan: Plan, value: Value) -> tuple[int, int]:
    """A value as native code knows it: its buffer and width."""
    return plan.buffer_of[value.id], value.width


@dataclass(frozen=True)
class Lowering:
    """Adds records to a native program whose buffers were planned."""

    plan: Plan
    program: _native.Program

    @singledispatchmethod
    def add(self, record: Any) -> None:
        raise TypeError(f"The cpu backend has no native op for {type(record).__name__}.")

    @add.register
    def _(self, record: Embed) -> None:
        self.program.embed(self._at(record.out), record.tokens, record.multiplier, record.positions)

    @add.register
    def _(self, record: Normalize) -> None:
        self.program.norm(self._at(record.out), self._at(record.x), _norm(record.norm))

    @add.register
    def _(self, record: NormLinear) -> None:
        self.program.norm_linear(
            self._at(record.out),
            self._at(record.x),
            _optional_norm(record.norm),
            record.linear,
            _activation(record.activation) if record.activation else None,
        )

    @add.register
    def _(self, record: RotaryWrite) -> None:
        attention = self._attention(record.spec)
        self.program.rotary_write(
            self._at(record.out),
            self._at(record.x),
            attention,
            record.rotary,
            _optional_norm(record.q_norm),
            _optional_norm(record.k_norm),
        )
        if record.spec.far is not None:
            self.program.pack_blocks(attention)

    @add.register
    def _(self, record: Attention) -> None:
        self.program.attention(
            self._at(record.out), self._at(record.x), self._attention(record.spec), record.sinks
        )

    @add.register
    def _(self, record: LinearResidual) -> None:
        residual = record.residual
        self.program.linear_residual(
            self._at(record.out),
            self._at(record.x),
            record.linear,
            self._at(residual.into),
            _optional_norm(residual.post_norm),
            residual.multiplier,
        )

    @add.register
    def _(self, record: ExpertsResidual) -> None:
        residual = record.residual
        self.program.experts_residual(
            self._at(record.out),
            self._at(record.x),
            _optional_norm(record.norm),
            _experts(record.experts),
            self._at(residual.into),
            _optional_norm(residual.post_norm),
            residual.multiplier,
        )

    @add.register
    def _(self, record: Logits) -> None:
        self.program.logits(
            self._at(record.out),
            self._at(record.x),
            record.head,
            record.multiplier,
            record.softcap or 0.0,
        )

    def _at(self, value: Value) -> tuple[int, int]:
        return place_of(self.plan, value)

    def _attention(self, spec: AttentionSpec) -> _native.Attention:
        return _native.Attention(
            self.program,
            (spec.kv_group, spec.kv_layer),
            (spec.num_heads, spec.num_kv_heads, spec.head_dim),
            spec.scale,
            spec.window or 0,
            spec.softcap or 0.0,
            None if spec.far is None else spec.far.group,
        )


def _norm(norm: Norm) -> _native.Norm:
    return _native.Norm(_native.NormKind[norm.kind], norm.weight, norm.bias, norm.eps)


def _optional_norm(norm: Norm | None) -> _native.Norm | None:
    return None if norm is None else _norm(norm)


def _activation(activation: Activation) -> _native.Activation:
    kind = _native.ActivationKind[activation.kind]
    return _native.Activation(kind, activation.gated, activation.limit, activation.alpha)


def _experts(experts: Experts) -> _native.Experts:
    return _native.Experts(
        experts.router,
        list(experts.up),
        list(experts.down),
        _activation(experts.activation),
        experts.top_k,
        experts.renormalize,
    )
