"""What one step gives a program: a ragged batch, and how large it can get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivace.formats.kv_format import KV_BLOCK_TOKENS

IntArray: TypeAlias = NDArray[np.int32]


@dataclass(frozen=True)
class Observed:
    """Rows whose queries a run leaves to the caller, as they meet what is recent: turned, and not
    scaled.

    Attributes:
        rows: [R], rows of the batch.
        queries: per KV group float32 [layers, R, heads * head_dim], which the run fills.
    """

    rows: IntArray
    queries: tuple[NDArray[np.float32], ...]

    def take(self, group: int, layer: int, queries: NDArray[np.float32]) -> None:
        """Keep those of one layer of a KV group, [R, heads, head_dim]."""
        self.queries[group][layer] = queries.reshape(len(self.rows), -1)


@dataclass(frozen=True)
class Batch:
    """One ragged step, flattened. All arrays are C-contiguous int32.

    Sequence s owns rows query_starts[s] to query_starts[s + 1]; its rows are consecutive
    positions and the last one is context_lens[s] - 1. A row sees its own sequence's positions up
    to itself, or what its sight leaves of them. Position p of sequence s stands in page
    block_tables[g][s, p // 16] at p % 16.

    Attributes:
        token_ids: [T].
        positions: [T].
        query_starts: [S + 1].
        context_lens: [S], at least the sequence's rows.
        block_tables: per KV group [S, max_blocks]; empty means no pages: every sequence stands
            whole in this batch, from position 0.
        logit_rows: [R], rows of the batch.
        adapter_ids: [T]: the slot of each row's adapter, from 1, or 0 for none; None where no row
            has one. A slot that is empty at a linear adds nothing there.
        sights: [S, 3], of each sequence's `Sight` the window, where 0 is all, the sinks, and the
            first position that its rows see but for them; None: all see all. Pages that no row
            sees are not meant.
        observed: the rows whose queries are wanted too; None: none.
    """

    token_ids: IntArray
    positions: IntArray
    query_starts: IntArray
    context_lens: IntArray
    block_tables: tuple[IntArray, ...]
    logit_rows: IntArray
    adapter_ids: IntArray | None = None
    sights: IntArray | None = None
    observed: Observed | None = None

    def row_sequences(self) -> NDArray[np.intp]:
        """The sequence of each row: [T]."""
        return np.repeat(np.arange(len(self.context_lens)), np.diff(self.query_starts))

    def filled_blocks(self) -> tuple[NDArray[np.intp], IntArray]:
        """The blocks of KV_BLOCK_TOKENS positions whose last one is in this batch: their sequences
        and their numbers."""
        last = (self.positions + 1) % KV_BLOCK_TOKENS == 0
        return self.row_sequences()[last], self.positions[last] // KV_BLOCK_TOKENS


@dataclass(frozen=True)
class BatchLimits:
    """The largest batch that a program must take."""

    max_tokens: int
    max_sequences: int
    max_logit_rows: int
