"""SnapKV (Li et al., 2024): what is kept of a prompt is what its last rows look at.

Each KV head of each layer keeps positions of its own. Keys keep the turn of their own position, so
a place in a page needs none: what is kept moves to the last places before the cut, in ascending
order. Every position moves up or stays, to pages that are the sequence's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from vivace.backends.protocol import PAGE_TOKENS, AttentionSpec, Backend, KVCache, KVSpec
from vivace.core.sight import OBSERVED_TOKENS

Floats = NDArray[np.float32]
Places = NDArray[np.intp]

NEIGHBOURS = 7  # a position counts as much as the best of so many around it


def votes(queries: Floats, keys: Floats, spec: AttentionSpec) -> Floats:
    """How much the last rows of a prompt look at each position before them.

    Args:
        queries: [rows, heads, head_dim], turned and not scaled.
        keys: [n, kv_heads, head_dim], those of the rows included.

    Returns:
        [kv_heads, n - rows], probabilities summed over rows and over the heads that share keys.
    """
    rows, before = len(queries), len(keys) - len(queries)
    group = spec.num_heads // spec.num_kv_heads
    later = np.triu(np.ones((rows, rows), np.bool_), 1)
    found = np.empty((spec.num_kv_heads, before), np.float32)
    for head, votes_of_head in enumerate(found):
        of_group = queries[:, head * group : (head + 1) * group].transpose(1, 0, 2)
        scores = _capped(np.float32(spec.scale) * (of_group @ keys[:, head].T), spec.softcap)
        scores[:, :, before:][:, later] = -np.inf
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares = powers / powers.sum(axis=-1, keepdims=True)
        votes_of_head[:] = shares[:, :, :before].sum(axis=(0, 1))
    return found


def chosen(votes: Floats, count: int) -> Places:
    """The positions with most votes, those of their neighbours taken for their own: [kv_heads,
    count], ascending; of equals the first."""
    around = NEIGHBOURS // 2
    padded = np.pad(votes, ((0, 0), (around, around)))
    pooled = sliding_window_view(padded, NEIGHBOURS, axis=1).max(axis=-1)
    order = np.argsort(-pooled, axis=1, kind="stable")
    return np.sort(order[:, :count], axis=1)


@dataclass(frozen=True)
class GroupCutter:
    """Cuts prompts in one KV group, which sees all and is not packed.

    Attributes:
        spec: the group.
        layers: its layers, in order.
    """

    backend: Backend
    cache: KVCache
    spec: KVSpec
    layers: Sequence[AttentionSpec]

    def keep(self, queries: Floats, table: Sequence[int], first: int, cut: int) -> None:
        """Move what is kept of the positions [0, cut) to [first, cut).

        Args:
            queries: [layers, rows, heads * head_dim], of the last rows before the cut.
            table: the page of each block; those from `first` on are the sequence's own.
        """
        pages = table[: -(-cut // PAGE_TOKENS)]
        for layer, (attention, of_layer) in enumerate(zip(self.layers, queries, strict=True)):
            rows = of_layer.reshape(len(of_layer), attention.num_heads, attention.head_dim)
            keys, values = self.backend.read_tokens(self.cache, self.spec, layer, pages)
            places = _kept_places(votes(rows, keys[:cut], attention), cut - first)
            for stored in (keys, values):
                stored[first:cut] = stored[places.T, np.arange(self.spec.num_kv_heads)]
            own = first // PAGE_TOKENS
            tokens = keys[own * PAGE_TOKENS :], values[own * PAGE_TOKENS :]
            self.backend.write_tokens(self.cache, self.spec, layer, pages[own:], tokens)


def _kept_places(votes: Floats, kept: int) -> Places:
    """The chosen positions and the last ones: [kv_heads, kept]."""
    heads, before = votes.shape
    last = np.broadcast_to(np.arange(before, before + OBSERVED_TOKENS), (heads, OBSERVED_TOKENS))
    return np.concatenate([chosen(votes, kept - OBSERVED_TOKENS), last], axis=1)


def _capped(scores: Floats, softcap: float | None) -> Floats:
    if softcap is None:
        return scores
    capped: Floats = np.float32(softcap) * np.tanh(scores / np.float32(softcap))
    return capped
