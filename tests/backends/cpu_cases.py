"""Small forwards with seeded weights, made alike on the reference and the cpu backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivace.backends.protocol import (
    PAGE_TOKENS,
    PLAIN,
    Backend,
    Batch,
    BatchLimits,
    Forward,
    KVSpec,
    LinearForm,
)
from vivace.formats.qtensor import QTensor

GATED = LinearForm(gated=True)
LIMITS = BatchLimits(max_tokens=256, max_sequences=16, max_logit_rows=64)
ROWS = 300  # rows of input tables: a batch of tokens picks among them

Floats: TypeAlias = NDArray[np.float32]
MakeForward: TypeAlias = Callable[[Backend, "Weights"], Forward]


class Weights:
    """Seeded tensors: the same calls give the same values, whatever the backend."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def tensor(self, *shape: int, scale: float = 1.0) -> QTensor:
        values = scale * self.rng.standard_normal(shape)
        return QTensor.from_array("weight", values.astype(np.float32))

    def gain(self, width: int) -> QTensor:
        values = 1 + 0.1 * self.rng.standard_normal(width)
        return QTensor.from_array("gain", values.astype(np.float32))

    def linear(
        self, backend: Backend, n: int, k: int, bias: bool = False, form: LinearForm = PLAIN
    ) -> Any:
        weight = self.tensor(n, k, scale=k**-0.5)
        return backend.linear([weight], [self.tensor(n)] if bias else [], form=form)


@dataclass(frozen=True)
class Span:
    """One sequence's share of a batch: rows [start, start + count)."""

    start: int
    count: int
    seed: int = 0


def ints(values: Any) -> NDArray[np.int32]:
    return np.ascontiguousarray(values, dtype=np.int32)


def batch_of(
    sequences: Sequence[Span], groups: int = 1, pages: int = 64, tokens: int = ROWS
) -> Batch:
    """A batch whose sequences have their own scattered pages, the same in every batch."""
    counts = [sequence.count for sequence in sequences]
    ends = [sequence.start + sequence.count for sequence in sequences]
    positions = [np.arange(s.start, s.start + s.count) for s in sequences]
    ids = [(7 * p + 31 * s.seed) % tokens for s, p in zip(sequences, positions, strict=True)]
    rows = min(sum(counts), LIMITS.max_logit_rows)
    return Batch(
        token_ids=ints(np.concatenate(ids)),
        positions=ints(np.concatenate(positions)),
        query_starts=ints(np.cumsum([0, *counts])),
        context_lens=ints(ends),
        block_tables=tuple(_table(sequences, group, pages) for group in range(groups)),
        logit_rows=ints(np.arange(rows)),
    )


def _table(sequences: Sequence[Span], group: int, pages: int) -> NDArray[np.int32]:
    """Page ids of one group, 0 past a sequence's end; no page belongs to two sequences below 8
    blocks, and groups have theirs in other places."""
    blocks = [-(-(span.start + span.count) // PAGE_TOKENS) for span in sequences]
    table = np.zeros((len(sequences), max(blocks)), np.int32)
    for row, count, span in zip(table, blocks, sequences, strict=True):
        block = np.arange(count)
        row[:count] = (span.seed * 8 + (5 * block + 3 * group) % 8) % pages
    return table


def run(
    backend: Backend,
    make: MakeForward,
    batches: Sequence[Batch],
    groups: Sequence[KVSpec] = (),
    pages: int = 64,
) -> list[Floats]:
    """What a forward gives for batches run one after another."""
    caches = [backend.kv_cache(group, pages) for group in groups]
    program = backend.compile(make(backend, Weights()), caches, LIMITS)
    return [backend.numpy(program.run(batch)).copy() for batch in batches]


def relative_error(actual: Floats, expected: Floats) -> float:
    """Largest absolute difference over largest absolute value."""
    return float(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-30))
