"""The ops of one step in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

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
from vivace.backends.sights import (
    Mask,
    cached_positions,
    in_own_block,
    recent_and_sinks,
    sight_of,
)
from vivace.backends.torch import steps
from vivace.backends.torch.handles import (
    AnyLinear,
    AnyPages,
    TorchEmbedding,
    TorchPackedPages,
    TorchPages,
    TorchRotary,
    TorchVector,
)
from vivace.formats.kv_format import KV_BLOCK_TOKENS, KVFormat
from vivace.formats.kv_rounding import pack_blocks, unpack_blocks


@dataclass(frozen=True)
class Queries:
    """What `rotary_write` hands to `attention`: turned queries, the same as they meet sinks, and
    this batch's keys and values; twice [T, heads, head_dim] and twice [T, kv_heads, head_dim]."""

    q: Tensor
    q_at_sinks: Tensor
    k: Tensor
    v: Tensor


@dataclass(frozen=True)
class TorchOps:
    """Bound to one batch, whose index arrays stand on the device."""

    batch: Batch
    caches: tuple[AnyPages, ...]
    dtype: torch.dtype
    device: torch.device
    token_ids: Tensor
    positions: Tensor
    logit_rows: Tensor

    @staticmethod
    def bind(
        batch: Batch, caches: Sequence[AnyPages], dtype: torch.dtype, device: torch.device
    ) -> TorchOps:
        arrays = (batch.token_ids, batch.positions, batch.logit_rows)
        token_ids, positions, logit_rows = (_indices(array, device) for array in arrays)
        return TorchOps(batch, tuple(caches), dtype, device, token_ids, positions, logit_rows)

    def embed(
        self,
        tokens: TorchEmbedding,
        multiplier: float = 1.0,
        positions: TorchEmbedding | None = None,
    ) -> Tensor:
        x = tokens.rows(self.token_ids)
        x = x if multiplier == 1 else multiplier * x
        return x if positions is None else x + positions.rows(self.positions)

    def norm(self, x: Tensor, norm: Norm) -> Tensor:
        return steps.normalize(x, norm)

    def norm_linear(
        self,
        x: Tensor,
        norm: Norm | None,
        linear: AnyLinear,
        activation: Activation | None = None,
    ) -> Tensor:
        y = self._adapted(x if norm is None else steps.normalize(x, norm), linear)
        return y if activation is None else steps.activate(y, activation)

    def rotary_write(
        self,
        qkv: Tensor,
        spec: AttentionSpec,
        rotary: TorchRotary | None,
        q_norm: Norm | None = None,
        k_norm: Norm | None = None,
    ) -> Queries:
        q_width, kv_width = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
        q, k, v = torch.split(qkv, [q_width, kv_width, kv_width], dim=-1)
        q = _heads_norm(q, q_norm, spec.head_dim)
        k = _heads_norm(k, k_norm, spec.head_dim)
        v = v.reshape(len(v), -1, spec.head_dim)
        q_at_sinks = self._turned_at_sinks(q, rotary, spec.window)
        q, k = (_turned(x, rotary, self.positions) for x in (q, k))
        observed = self.batch.observed
        if observed is not None:
            rows = _indices(observed.rows, self.device)
            observed.take(spec.kv_group, spec.kv_layer, q[rows].detach().float().cpu().numpy())
        queries = Queries(q, q_at_sinks, k.to(self.dtype), v.to(self.dtype))
        if self.batch.block_tables:
            self._write(queries, spec)
        return queries

    def attention(
        self, queries: Queries, spec: AttentionSpec, sinks: TorchVector | None = None
    ) -> Tensor:
        sink_values = None if sinks is None else sinks.value
        if spec.far is None and self._whole_equal_sequences():
            return self._attend_batched(queries, spec, sink_values)
        out = [
            self._attend_one(s, queries, spec, sink_values)
            for s in range(len(self.batch.context_lens))
        ]
        return torch.cat(out).flatten(1)

    def linear_residual(self, x: Tensor, linear: AnyLinear, residual: Residual) -> Tensor:
        return _add(self._adapted(x, linear), residual)

    def experts_residual(
        self, x: Tensor, norm: Norm | None, experts: Experts, residual: Residual
    ) -> Tensor:
        x = x if norm is None else steps.normalize(x, norm)
        router_logits = self._linear(x, experts.router)
        chosen, weights = steps.route(router_logits, experts.top_k, experts.renormalize)
        y = x.new_zeros(len(x), experts.down[0].out_features)
        for e, (up, down) in enumerate(zip(experts.up, experts.down, strict=True)):
            rows, slots = torch.nonzero(chosen == e, as_tuple=True)
            inner = steps.activate(self._linear(x[rows], up), experts.activation)
            y = y.index_add(0, rows, weights[rows, slots, None] * self._linear(inner, down).float())
        return _add(y, residual)

    def logits(
        self,
        hidden: Tensor,
        head: AnyLinear,
        multiplier: float = 1.0,
        softcap: float | None = None,
    ) -> Tensor:
        y = self._linear(hidden[self.logit_rows], head).float()
        return steps.cap(y if multiplier == 1 else multiplier * y, softcap)

    def _linear(self, x: Tensor, linear: AnyLinear) -> Tensor:
        y = linear.multiply(x, self.dtype)
        if linear.collective is not None:
            y = linear.collective.all_reduce(y)
        return y if linear.bias is None else y + linear.bias

    def _adapted(self, x: Tensor, linear: AnyLinear) -> Tensor:
        """linear(x), and what each row's adapter adds."""
        y = self._linear(x, linear)
        adapted = rows_by_slot(self.batch.adapter_ids, len(linear.adapters))
        for found, parts in zip(adapted, linear.adapters, strict=False):
            rows = _indices(found.astype(np.int32), self.device)
            for part in parts:
                added = part.multiply(x[rows], self.dtype)
                behind = y.shape[1] - part.first - added.shape[1]
                y = y.float().index_add(0, rows, F.pad(added, (part.first, behind)))
        return y

    def _write(self, queries: Queries, spec: AttentionSpec) -> None:
        cache, batch = _plain(self.caches[spec.kv_group]), self.batch
        blocks, offsets = np.divmod(batch.positions, PAGE_TOKENS)
        pages = batch.block_tables[spec.kv_group][batch.row_sequences(), blocks]
        where = (spec.kv_layer, _indices(pages, self.device), _indices(offsets, self.device))
        cache.keys[where] = queries.k.detach()
        cache.values[where] = queries.v.detach()
        if spec.far is not None:
            self._pack(cache, spec, spec.far)

    def _pack(self, near: TorchPages, spec: AttentionSpec, far: FarKV) -> None:
        """Pack the blocks that are full now; on the host, once for every 32 tokens."""
        sequences, blocks = self.batch.filled_blocks()
        halves = KV_BLOCK_TOKENS // PAGE_TOKENS * blocks[:, None] + [0, 1]
        pages = self.batch.block_tables[spec.kv_group][sequences[:, None], halves]
        k, v = (x[spec.kv_layer, _indices(pages, self.device)] for x in near.arrays)
        targets = self.batch.block_tables[far.group][sequences, blocks]
        packed = _packed(self.caches[far.group]).data
        packed[spec.kv_layer, _indices(targets, self.device)] = _pack_blocks(k, v, far.format)

    def _turned_at_sinks(self, q: Tensor, rotary: TorchRotary | None, window: int | None) -> Tensor:
        if self.batch.sights is None:
            return q
        return _turned(q, rotary, _indices(cached_positions(self.batch, window), self.device))

    def _whole_equal_sequences(self) -> bool:
        batch, lengths = self.batch, self.batch.context_lens
        alike = batch.sights is None and bool((lengths == lengths[0]).all())
        return alike and not batch.block_tables

    def _attend_batched(
        self, queries: Queries, spec: AttentionSpec, sinks: Tensor | None
    ) -> Tensor:
        """Whole sequences of one length: one call for all of them."""
        length = int(self.batch.context_lens[0])
        q, k, v = (
            x.reshape(-1, length, *x.shape[1:]).transpose(1, 2)
            for x in (queries.q, queries.k, queries.v)
        )
        windowed = spec.window is not None and spec.window < length
        if windowed or spec.softcap is not None or sinks is not None:
            positions = torch.arange(length, device=self.device)
            segment = steps.Segment(q, k, v, _visible(positions, length, spec))
            out = steps.attend([segment], spec, sinks)
        else:
            out = steps.attend_causal(q.to(self.dtype), k, v, spec.scale)
        return out.transpose(1, 2).flatten(0, 1).flatten(1)

    def _attend_one(
        self, s: int, queries: Queries, spec: AttentionSpec, sinks: Tensor | None
    ) -> Tensor:
        """Sequence s: [rows, heads, head_dim]."""
        rows = slice(*self.batch.query_starts[s : s + 2].tolist())
        return steps.attend(self._segments(s, rows, queries, spec), spec, sinks).transpose(0, 1)

    def _segments(
        self, s: int, rows: slice, queries: Queries, spec: AttentionSpec
    ) -> list[steps.Segment]:
        """What rows of sequence s see: what is recent, and the sinks of those that evict."""
        sight, positions = sight_of(self.batch, s, spec.window), self.batch.positions[rows]
        q, q_at_sinks = (x[rows].transpose(0, 1) for x in (queries.q, queries.q_at_sinks))
        kept = slice(sight.sinks)
        segments = []
        for keys, values, read in self._stored(s, positions, queries, spec):
            k, v = keys.transpose(0, 1), values.transpose(0, 1)
            masks = (read & seen for seen in recent_and_sinks(sight, positions, len(keys)))
            recent, at_sinks = (torch.tensor(mask, device=self.device) for mask in masks)
            segments.append(steps.Segment(q, k, v, recent))
            if sight.sinks:
                at_sinks = at_sinks[:, kept]
                segments.append(steps.Segment(q_at_sinks, k[:, kept], v[:, kept], at_sinks))
        return segments

    def _stored(
        self, s: int, positions: IntArray, queries: Queries, spec: AttentionSpec
    ) -> list[tuple[Tensor, Tensor, Mask]]:
        """Keys and values of sequence s from position 0, as they were computed and, where the layer
        is compressed, packed; and which of them rows at positions [n] read in that form."""
        k, v = self._context(s, queries, spec)
        if spec.far is None:
            return [(k, v, np.ones((len(positions), len(k)), np.bool_))]
        own = in_own_block(positions, len(k))
        far_k, far_v = self._far_context(s, k, v, spec, spec.far)
        return [(k, v, own), (far_k, far_v, ~own[:, : len(far_k)])]

    def _far_context(
        self, s: int, k: Tensor, v: Tensor, spec: AttentionSpec, far: FarKV
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of the full blocks of sequence s as their packed form has them. Without
        pages, they are packed from k and v, which are whole then."""
        blocks = int(self.batch.context_lens[s]) // KV_BLOCK_TOKENS
        if self.batch.block_tables:
            pages = _indices(self.batch.block_tables[far.group][s, :blocks], self.device)
            packed = _packed(self.caches[far.group]).data[spec.kv_layer, pages]
        else:
            shape = blocks, KV_BLOCK_TOKENS, *k.shape[1:]
            full = blocks * KV_BLOCK_TOKENS
            packed = _pack_blocks(k[:full].reshape(shape), v[:full].reshape(shape), far.format)
        unpacked = unpack_blocks(packed.cpu().numpy(), far.format, spec.head_dim)
        far_k, far_v = (torch.tensor(x, device=self.device).flatten(0, 1) for x in unpacked)
        return far_k, far_v

    def _context(self, s: int, queries: Queries, spec: AttentionSpec) -> tuple[Tensor, Tensor]:
        """Keys and values of sequence s from position 0."""
        length = int(self.batch.context_lens[s])
        if not self.batch.block_tables:
            rows = slice(int(self.batch.query_starts[s]), int(self.batch.query_starts[s + 1]))
            return queries.k[rows], queries.v[rows]
        cache = _plain(self.caches[spec.kv_group])
        table = self.batch.block_tables[spec.kv_group][s, : -(-length // PAGE_TOKENS)]
        pages = _indices(table, self.device)
        k, v = (x[spec.kv_layer, pages].flatten(0, 1) for x in (cache.keys, cache.values))
        return k[:length], v[:length]


def _plain(pages: AnyPages) -> TorchPages:
    assert isinstance(pages, TorchPages)
    return pages


def _packed(pages: AnyPages) -> TorchPackedPages:
    assert isinstance(pages, TorchPackedPages)
    return pages


def _pack_blocks(k: Tensor, v: Tensor, format: KVFormat) -> Tensor:
    """Blocks of whole positions [n, ..., kv_heads, head_dim] as packed pages."""
    shape = len(k), KV_BLOCK_TOKENS, *k.shape[-2:]
    keys, values = (x.detach().float().cpu().reshape(shape).numpy() for x in (k, v))
    return torch.from_numpy(pack_blocks(keys, values, format)).to(k.device)


def _indices(array: IntArray, device: torch.device) -> Tensor:
    return torch.tensor(array, dtype=torch.int64, device=device)


def _turned(x: Tensor, rotary: TorchRotary | None, positions: Tensor) -> Tensor:
    if rotary is None:
        return x
    return steps.turn(x, rotary.cos[positions, None], rotary.sin[positions, None])


def _visible(positions: Tensor, length: int, spec: AttentionSpec) -> Tensor:
    """[n, length]: which positions each row sees."""
    columns = torch.arange(length, device=positions.device)
    visible = columns <= positions[:, None]
    if spec.window is not None:
        visible &= columns > positions[:, None] - spec.window
    return visible


def _heads_norm(x: Tensor, norm: Norm | None, head_dim: int) -> Tensor:
    """[T, width] to [T, heads, head_dim], normed per head or as a whole by the gain's length."""
    heads = x.reshape(len(x), -1, head_dim)
    if norm is None:
        return heads
    if len(norm.weight) == head_dim:
        return steps.normalize(heads, norm)
    return steps.normalize(x, norm).view_as(heads)


def _add(y: Tensor, residual: Residual) -> Tensor:
    if residual.post_norm is not None:
        y = steps.normalize(y, residual.post_norm)
    y = y if residual.multiplier == 1 else residual.multiplier * y
    summed: Tensor = residual.into + y
    return summed
