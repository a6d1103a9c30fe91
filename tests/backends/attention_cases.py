"""Attention of ragged batches over long, scattered pages, made alike on every backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from cpu_cases import ROWS, Floats, Span, Weights, ints

from vivace.backends.protocol import (
    PAGE_TOKENS,
    AttentionSpec,
    Backend,
    Batch,
    BatchLimits,
    KVSpec,
    RotarySpec,
)
from vivace.core.sight import Sight
from vivace.formats.qtensor import QTensor

LIMITS = BatchLimits(max_tokens=2048, max_sequences=8, max_logit_rows=8)
PAGES = 256


def _numbers(sight: Sight, span: Span) -> tuple[int, int, int]:
    first = sight.first_recent(span.start) if sight.window is None else 0
    return sight.window or 0, sight.sinks, first


def batch_of(spans: Sequence[Span], sights: Sequence[Sight] | None = None) -> Batch:
    """A sequence's tokens and pages follow from its seed, which counts the blocks before it."""
    counts = [span.count for span in spans]
    ends = [span.start + span.count for span in spans]
    positions = [np.arange(span.start, span.start + span.count) for span in spans]
    ids = [(7 * p + 31 * s.seed) % ROWS for s, p in zip(spans, positions, strict=True)]
    table = np.zeros((len(spans), -(-max(ends) // PAGE_TOKENS)), np.int32)
    for row, span, end in zip(table, spans, ends, strict=True):
        blocks = np.arange(-(-end // PAGE_TOKENS))
        row[: len(blocks)] = 101 * (span.seed + blocks) % PAGES  # scattered
    return Batch(
        token_ids=ints(np.concatenate(ids)),
        positions=ints(np.concatenate(positions)),
        query_starts=ints(np.cumsum([0, *counts])),
        context_lens=ints(ends),
        block_tables=(table,),
        logit_rows=ints([]),
        sights=None if sights is None else ints(list(map(_numbers, sights, spans))),
    )


def attend(
    backend: Backend,
    spec: AttentionSpec,
    batches: Sequence[Batch],
    values: Floats | None = None,
    sinks: float | None = None,
    turn: RotarySpec | None = None,
) -> list[Floats]:
    """Attention of batches run one after another over the same pages."""
    weights = Weights()
    width = (spec.num_heads + 2 * spec.num_kv_heads) * spec.head_dim
    source = weights.tensor(ROWS, width) if values is None else QTensor.from_array("qkv", values)
    table = backend.embedding(source)
    logits = None if sinks is None else backend.vector(weights.tensor(spec.num_heads, scale=sinks))
    rotary = None if turn is None else backend.rotary(turn)

    def forward(ops: Any) -> Any:
        queries = ops.rotary_write(ops.embed(table), spec, rotary)
        return ops.attention(queries, spec, logits)

    group = KVSpec(1, spec.num_kv_heads, spec.head_dim, spec.window)
    program = backend.compile(forward, [backend.kv_cache(group, PAGES)], LIMITS)
    return [backend.numpy(program.run(batch)).copy() for batch in batches]


def before(spans: Sequence[Span]) -> list[Batch]:
    """One batch per sequence that writes what stands before the spans."""
    return [batch_of([replace(span, start=0, count=span.start)]) for span in spans if span.start]
