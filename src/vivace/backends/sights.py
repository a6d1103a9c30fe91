"""What the rows of a batch see, as arrays: for backends that mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vivace.backends.protocol import Batch, IntArray
from vivace.core.sight import ALL, Sight
from vivace.formats.kv_format import KV_BLOCK_TOKENS

Mask = NDArray[np.bool_]


def sight_of(batch: Batch, sequence: int, window: int | None) -> Sight:
    """What rows of a sequence see in a layer with that window."""
    if batch.sights is None:
        return ALL.within(window)
    limit, sinks, first = batch.sights[sequence].tolist()
    return Sight(limit or None, sinks, kept=0, prompt=first).within(window)


def cached_positions(batch: Batch, window: int | None) -> IntArray:
    """The position that the cache gives each row: [T]."""
    sequences = range(len(batch.context_lens))
    reaches = [sight_of(batch, s, window).reach or np.iinfo(np.int32).max for s in sequences]
    limits = np.asarray(reaches, np.int32)[batch.row_sequences()] - 1
    return np.minimum(batch.positions, limits)


def recent_and_sinks(sight: Sight, positions: IntArray, length: int) -> tuple[Mask, Mask]:
    """Which of the positions [0, length) each row meets as recent ones, and which as sinks.

    Args:
        positions: [n].

    Returns:
        twice [n, length]; no position is in both.
    """
    columns = np.arange(length)
    first = np.asarray([sight.first_recent(p) for p in positions.tolist()])[:, None]
    recent = (columns <= positions[:, None]) & (columns >= first)
    return recent, (columns < sight.sinks) & (first > 0)


def in_own_block(positions: IntArray, length: int) -> Mask:
    """Which of the positions [0, length) stand in each row's own block, as `FarKV` has them.

    Args:
        positions: [n].

    Returns:
        [n, length]
    """
    blocks = np.arange(length) // KV_BLOCK_TOKENS
    own: Mask = positions[:, None] // KV_BLOCK_TOKENS == blocks
    return own
