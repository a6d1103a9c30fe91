"""The ops of one step, each composed of plain steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vivace.backends.protocol import (
    PAGE_TOKENS,
    Activation,
    AttentionSpec,
    Batch,
    Experts,
    Norm,
    Residual,
)
from vivace.backends.reference import steps
from vivace.backends.reference.handles import (
    ReferenceLinear,
    ReferencePages,
    ReferenceRotary,
)
from vivace.backends.reference.steps import Floats


@dataclass(frozen=True)
class Queries:
    """What `rotary_write` hands to `attention`: turned queries and this batch's keys and values,
    [T, heads, head_dim] and twice [T, kv_heads, head_dim]."""

    q: Floats
    k: Floats
    v: Floats


@dataclass(frozen=True)
class ReferenceOps:
    """Bound to one batch. `round` gives a value as the backend's dtype holds it."""

    round: Callable[[Floats], Floats]
    batch: Batch
    caches: tuple[ReferencePages, ...]

    def embed(
        self, tokens: Floats, multiplier: float = 1.0, positions: Floats | None = None
    ) -> Floats:
        x: Floats = np.float32(multiplier) * tokens[self.batch.token_ids]
        return x if positions is None else x + positions[self.batch.positions]

    def norm(self, x: Floats, norm: Norm) -> Floats:
        return steps.normalize(x, norm)

    def norm_linear(
        self,
        x: Floats,
        norm: Norm | None,
        linear: ReferenceLinear,
        activation: Activation | None = None,
    ) -> Floats:
        y = self._linear(x if norm is None else steps.normalize(x, norm), linear)
        return y if activation is None else steps.activate(y, activation)

    def rotary_write(
        self,
        qkv: Floats,
        spec: AttentionSpec,
        rotary: ReferenceRotary | None,
        q_norm: Norm | None = None,
        k_norm: Norm | None = None,
    ) -> Queries:
        q_width, kv_width = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
        q, k, v = np.split(qkv, [q_width, q_width + kv_width], axis=-1)
        q = _heads_norm(q, q_norm, spec.head_dim)
        k = _heads_norm(k, k_norm, spec.head_dim)
        v = v.reshape(len(v), -1, spec.head_dim)
        if rotary is not None:
            cos, sin = rotary.cos[self.batch.positions], rotary.sin[self.batch.positions]
            q, k = steps.turn(q, cos, sin), steps.turn(k, cos, sin)
        queries = Queries(q * np.float32(spec.scale), self.round(k), self.round(v))
        if self.batch.block_tables:
            self._write(queries, spec)
        return queries

    def attention(
        self, queries: Queries, spec: AttentionSpec, sinks: Floats | None = None
    ) -> Floats:
        out = np.empty_like(queries.q)
        for s, (start, end) in enumerate(self._row_ranges()):
            k, v = self._context(s, queries, spec)
            rows = self.batch.positions[start:end, None]
            columns = np.arange(len(k))
            visible = columns <= rows
            if spec.window is not None:
                visible &= columns > rows - spec.window
            out[start:end] = steps.attend(queries.q[start:end], k, v, visible, spec.softcap, sinks)
        return out.reshape(len(out), -1)

    def linear_residual(self, x: Floats, linear: ReferenceLinear, residual: Residual) -> Floats:
        return _add(self._linear(x, linear), residual)

    def experts_residual(
        self, x: Floats, norm: Norm | None, experts: Experts, residual: Residual
    ) -> Floats:
        x = x if norm is None else steps.normalize(x, norm)
        router_logits = self._linear(x, experts.router)
        chosen, weights = steps.route(router_logits, experts.top_k, experts.renormalize)
        y = np.zeros((len(x), experts.down[0].out_features), np.float32)
        for e, (up, down) in enumerate(zip(experts.up, experts.down, strict=True)):
            rows, slots = np.nonzero(chosen == e)
            inner = steps.activate(self._linear(x[rows], up), experts.activation)
            y[rows] += weights[rows, slots, None] * self._linear(inner, down)
        return _add(y, residual)

    def logits(
        self,
        hidden: Floats,
        head: ReferenceLinear,
        multiplier: float = 1.0,
        softcap: float | None = None,
    ) -> Floats:
        rows = hidden[self.batch.logit_rows]
        return steps.cap(np.float32(multiplier) * self._linear(rows, head), softcap)

    def _linear(self, x: Floats, linear: ReferenceLinear) -> Floats:
        y = linear.weight.multiply(x)
        if linear.collective is not None:
            y = linear.collective.all_reduce(y)
        return y if linear.bias is None else y + linear.bias

    def _row_ranges(self) -> list[tuple[int, int]]:
        starts = self.batch.query_starts.tolist()
        return list(pairwise(starts))

    def _write(self, queries: Queries, spec: AttentionSpec) -> None:
        cache = self.caches[spec.kv_group]
        sequence = np.repeat(
            np.arange(len(self.batch.context_lens)), np.diff(self.batch.query_starts)
        )
        blocks, offsets = np.divmod(self.batch.positions, PAGE_TOKENS)
        pages = self.batch.block_tables[spec.kv_group][sequence, blocks]
        cache.keys[spec.kv_layer, pages, offsets] = queries.k
        cache.values[spec.kv_layer, pages, offsets] = queries.v

    def _context(self, s: int, queries: Queries, spec: AttentionSpec) -> tuple[Floats, Floats]:
        """Keys and values of sequence s from position 0; what a window passed is not meant."""
        length = int(self.batch.context_lens[s])
        if not self.batch.block_tables:
            start = int(self.batch.query_starts[s])
            return queries.k[start : start + length], queries.v[start : start + length]
        cache = self.caches[spec.kv_group]
        pages = self.batch.block_tables[spec.kv_group][s, : -(-length // PAGE_TOKENS)]
        return _gather(cache.keys, spec, pages, length), _gather(cache.values, spec, pages, length)


def _gather(stored: Floats, spec: AttentionSpec, pages: NDArray[np.int32], length: int) -> Floats:
    found: Floats = stored[spec.kv_layer, pages]
    return found.reshape(-1, spec.num_kv_heads, spec.head_dim)[:length]


def _heads_norm(x: Floats, norm: Norm | None, head_dim: int) -> Floats:
    """[T, width] to [T, heads, head_dim], normed per head or as a whole by the gain's length."""
    heads = x.reshape(len(x), -1, head_dim)
    if norm is None:
        return heads
    if len(norm.weight) == head_dim:
        return steps.normalize(heads, norm)
    return steps.normalize(x, norm).reshape(heads.shape)


def _add(y: Floats, residual: Residual) -> Floats:
    if residual.post_norm is not None:
        y = steps.normalize(y, residual.post_norm)
    summed: Floats = residual.into + np.float32(residual.multiplier) * y
    return summed
