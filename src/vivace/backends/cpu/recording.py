"""A forward pass recorded once: what it does, op by op, with values as ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from vivace.backends.protocol import Activation, AttentionSpec, Experts, Norm, Residual

if TYPE_CHECKING:
    from vivace.backends.cpu import _native


@dataclass(frozen=True)
class Value:
    """The result of a record: float32 [planes, rows, width], a row per token or per logit row.
    Queries have two planes: as they meet what is recent, and as they meet the sinks."""

    id: int
    width: int
    per_logit_row: bool = False
    planes: int = 1


@dataclass(frozen=True)
class Embed:
    out: Value
    tokens: _native.Embedding
    multiplier: float
    positions: _native.Embedding | None


@dataclass(frozen=True)
class Normalize:
    out: Value
    x: Value
    norm: Norm


@dataclass(frozen=True)
class NormLinear:
    out: Value
    x: Value
    norm: Norm | None
    linear: _native.Linear
    activation: Activation | None


@dataclass(frozen=True)
class RotaryWrite:
    out: Value
    x: Value
    spec: AttentionSpec
    rotary: _native.RotaryTable | None
    q_norm: Norm | None
    k_norm: Norm | None


@dataclass(frozen=True)
class Attention:
    out: Value
    x: Value
    spec: AttentionSpec
    sinks: _native.Vector | None


@dataclass(frozen=True)
class LinearResidual:
    out: Value
    x: Value
    linear: _native.Linear
    residual: Residual


@dataclass(frozen=True)
class ExpertsResidual:
    out: Value
    x: Value
    norm: Norm | None
    experts: Experts
    residual: Residual


@dataclass(frozen=True)
class Logits:
    out: Value
    x: Value
    head: _native.Linear
    multiplier: float
    softcap: float | None


Record: TypeAlias = (
    Embed
    | Normalize
    | NormLinear
    | RotaryWrite
    | Attention
    | LinearResidual
    | ExpertsResidual
    | Logits
)


def inputs(record: Record) -> tuple[Value, ...]:
    """The values that a record reads."""
    if isinstance(record, Embed):
        return ()
    if isinstance(record, (LinearResidual, ExpertsResidual)):
        return record.x, record.residual.into
    return (record.x,)


@dataclass
class Recorder:
    """`Ops` that compute nothing and remember everything, in order."""

    records: list[Record] = field(default_factory=list)

    def embed(
        self,
        tokens: _native.Embedding,
        multiplier: float = 1.0,
        positions: _native.Embedding | None = None,
    ) -> Value:
        return self._add(Embed(self._value(tokens.width), tokens, multiplier, positions))

    def norm(self, x: Value, norm: Norm) -> Value:
        return self._add(Normalize(self._value(x.width), x, norm))

    def norm_linear(
        self,
        x: Value,
        norm: Norm | None,
        linear: _native.Linear,
        activation: Activation | None = None,
    ) -> Value:
        gated = activation is not None and activation.gated
        out = self._value(linear.n // 2 if gated else linear.n)
        return self._add(NormLinear(out, x, norm, linear, activation))

    def rotary_write(
        self,
        qkv: Value,
        spec: AttentionSpec,
        rotary: _native.RotaryTable | None,
        q_norm: Norm | None = None,
        k_norm: Norm | None = None,
    ) -> Value:
        out = Value(len(self.records), spec.num_heads * spec.head_dim, planes=2)
        return self._add(RotaryWrite(out, qkv, spec, rotary, q_norm, k_norm))

    def attention(
        self, queries: Value, spec: AttentionSpec, sinks: _native.Vector | None = None
    ) -> Value:
        return self._add(Attention(self._value(queries.width), queries, spec, sinks))

    def linear_residual(self, x: Value, linear: _native.Linear, residual: Residual) -> Value:
        return self._add(LinearResidual(self._value(linear.n), x, linear, residual))

    def experts_residual(
        self, x: Value, norm: Norm | None, experts: Experts, residual: Residual
    ) -> Value:
        out = self._value(residual.into.width)
        return self._add(ExpertsResidual(out, x, norm, experts, residual))

    def logits(
        self,
        hidden: Value,
        head: _native.Linear,
        multiplier: float = 1.0,
        softcap: float | None = None,
    ) -> Value:
        out = Value(len(self.records), head.n, per_logit_row=True)
        return self._add(Logits(out, hidden, head, multiplier, softcap))

    def _value(self, width: int) -> Value:
        return Value(len(self.records), width)

    def _add(self, record: Record) -> Value:
        self.records.append(record)
        return record.out
