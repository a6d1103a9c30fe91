"""The ops of one step, each composed of plain steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vivace.backends.low_rank import rows_by_slot
from vivace.backends.protocol import (
    PAGE_TOKENS,
    Activation,
    AttentionSpec,
    Batch,
    Experts,
    FarKV,
    IntArray,
    Norm,
    Residual,
)
from vivace.backends.reference import steps
from vivace.backends.reference.handles import (
    AnyPages,
    PackedPages,
    ReferenceLinear,
    ReferencePages,
    ReferenceRotary,
)
from vivace.backends.reference.steps import Floats
from vivace.backends.sights import (
    Mask,
    cached_positions,
    in_own_block,
    recent_and_sinks,
    sight_of,
)
from vivace.formats.kv_format import KV_BLOCK_TOKENS
from vivace.formats.kv_rounding import pack_blocks, unpack_blocks


@dataclass(frozen=True)
class Queries:
    """What `rotary_write` hands to `attention`: turned queries, the same as they meet sinks, and
    this batch's keys and values; twice [T, heads, head_dim] and twice [T, kv_heads, head_dim]."""

    q: Floats
    q_at_sinks: Floats
    k: Floats
    v: Floats


@dataclass(frozen=True)
class ReferenceOps:
    """Bound to one batch. `round` gives a value as the backend's dtype holds it."""

    round: Callable[[Floats], Floats]
    batch: Batch
    caches: tuple[AnyPages, ...]

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
        y = self._adapted(x if norm is None else steps.normalize(x, norm), linear)
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
        scale, positions = np.float32(spec.scale), self.batch.positions
        turned = _turned(q, rotary, positions)
        if self.batch.observed is not None:
            self.batch.observed.take(spec.kv_group, spec.kv_layer, turned[self.batch.observed.rows])
        queries = Queries(
            scale * turned,
            scale * _turned(q, rotary, cached_positions(self.batch, spec.window)),
            self.round(_turned(k, rotary, positions)),
            self.round(v),
        )
        if self.batch.block_tables:
            self._write(queries, spec)
        return queries

    def attention(
        self, queries: Queries, spec: AttentionSpec, sinks: Floats | None = None
    ) -> Floats:
        out = np.empty_like(queries.q)
        for s, (start, end) in enumerate(self._row_ranges()):
            segments = self._segments(s, slice(start, end), queries, spec)
            out[start:end] = steps.attend(segments, spec.softcap, sinks)
        return out.reshape(len(out), -1)

    def linear_residual(self, x: Floats, linear: ReferenceLinear, residual: Residual) -> Floats:
        return _add(self._adapted(x, linear), residual)

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

    def _adapted(self, x: Floats, linear: ReferenceLinear) -> Floats:
        """linear(x), and what each row's adapter adds."""
        y = self._linear(x, linear)
        adapted = rows_by_slot(self.batch.adapter_ids, len(linear.adapters))
        for rows, parts in zip(adapted, linear.adapters, strict=False):
            for part in parts:
                inner = self.round(self.round(x[rows]) @ part.a.T)
                outputs = slice(part.first, part.first + len(part.b))
                y[rows, outputs] += part.scale * (inner @ part.b.T)
        return y

    def _row_ranges(self) -> list[tuple[int, int]]:
        starts = self.batch.query_starts.tolist()
        return list(pairwise(starts))

    def _write(self, queries: Queries, spec: AttentionSpec) -> None:
        cache = _plain(self.caches[spec.kv_group])
        blocks, offsets = np.divmod(self.batch.positions, PAGE_TOKENS)
        pages = self.batch.block_tables[spec.kv_group][self.batch.row_sequences(), blocks]
        cache.keys[spec.kv_layer, pages, offsets] = queries.k
        cache.values[spec.kv_layer, pages, offsets] = queries.v
        if spec.far is not None:
            self._pack(cache, spec, spec.far)

    def _pack(self, near: ReferencePages, spec: AttentionSpec, far: FarKV) -> None:
        """Pack the blocks that are full now."""
        sequences, blocks = self.batch.filled_blocks()
        halves = KV_BLOCK_TOKENS // PAGE_TOKENS * blocks[:, None] + [0, 1]
        pages = self.batch.block_tables[spec.kv_group][sequences[:, None], halves]
        shape = len(blocks), KV_BLOCK_TOKENS, spec.num_kv_heads, spec.head_dim
        k, v = (x[spec.kv_layer, pages].reshape(shape) for x in near.arrays)
        targets = self.batch.block_tables[far.group][sequences, blocks]
        packed = _packed(self.caches[far.group])
        packed.data[spec.kv_layer, targets] = pack_blocks(k, v, far.format)

    def _segments(
        self, s: int, rows: slice, queries: Queries, spec: AttentionSpec
    ) -> list[steps.Segment]:
        """What rows of sequence s see: what is recent, and the sinks of those that evict."""
        sight, positions = sight_of(self.batch, s, spec.window), self.batch.positions[rows]
        q, q_at_sinks = queries.q[rows], queries.q_at_sinks[rows]
        kept = slice(sight.sinks)
        segments = []
        for k, v, read in self._stored(s, positions, queries, spec):
            recent, at_sinks = (read & seen for seen in recent_and_sinks(sight, positions, len(k)))
            segments.append(steps.Segment(q, k, v, recent))
            if sight.sinks:
                segments.append(steps.Segment(q_at_sinks, k[kept], v[kept], at_sinks[:, kept]))
        return segments

    def _stored(
        self, s: int, positions: IntArray, queries: Queries, spec: AttentionSpec
    ) -> list[tuple[Floats, Floats, Mask]]:
        """Keys and values of sequence s from position 0, as they were computed and, where the layer
        is compressed, packed; and which of them rows at positions [n] read in that form."""
        k, v = self._context(s, queries, spec)
        if spec.far is None:
            return [(k, v, np.ones((len(positions), len(k)), np.bool_))]
        own = in_own_block(positions, len(k))
        far_k, far_v = self._far_context(s, k, v, spec, spec.far)
        return [(k, v, own), (far_k, far_v, ~own[:, : len(far_k)])]

    def _context(self, s: int, queries: Queries, spec: AttentionSpec) -> tuple[Floats, Floats]:
        """Keys and values of sequence s from position 0; what a window passed is not meant."""
        length = int(self.batch.context_lens[s])
        if not self.batch.block_tables:
            start = int(self.batch.query_starts[s])
            return queries.k[start : start + length], queries.v[start : start + length]
        cache = _plain(self.caches[spec.kv_group])
        pages = self.batch.block_tables[spec.kv_group][s, : -(-length // PAGE_TOKENS)]
        return _gather(cache.keys, spec, pages, length), _gather(cache.values, spec, pages, length)

    def _far_context(
        self, s: int, k: Floats, v: Floats, spec: AttentionSpec, far: FarKV
    ) -> tuple[Floats, Floats]:
        """Keys and values of the full blocks of sequence s as their packed form has them. Without
        pages, they are packed from k and v, which are whole then."""
        blocks = int(self.batch.context_lens[s]) // KV_BLOCK_TOKENS
        if self.batch.block_tables:
            pages = self.batch.block_tables[far.group][s, :blocks]
            packed = _packed(self.caches[far.group]).data[spec.kv_layer, pages]
        else:
            shape = blocks, KV_BLOCK_TOKENS, spec.num_kv_heads, spec.head_dim
            full = slice(blocks * KV_BLOCK_TOKENS)
            packed = pack_blocks(k[full].reshape(shape), v[full].reshape(shape), far.format)
        keys, values = unpack_blocks(packed, far.format, spec.head_dim)
        flat = -1, spec.num_kv_heads, spec.head_dim
        return keys.reshape(flat), values.reshape(flat)


def _plain(pages: AnyPages) -> ReferencePages:
    assert isinstance(pages, ReferencePages)
    return pages


def _packed(pages: AnyPages) -> PackedPages:
    assert isinstance(pages, PackedPages)
    return pages


def _gather(stored: Floats, spec: AttentionSpec, pages: NDArray[np.int32], length: int) -> Floats:
    found: Floats = stored[spec.kv_layer, pages]
    return found.reshape(-1, spec.num_kv_heads, spec.head_dim)[:length]


def _turned(x: Floats, rotary: ReferenceRotary | None, positions: NDArray[np.int32]) -> Floats:
    if rotary is None:
        return x
    return steps.turn(x, rotary.cos[positions], rotary.sin[positions])


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
