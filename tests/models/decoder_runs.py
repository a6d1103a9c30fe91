"""Runs a decoder over one sequence, with pages where the backend needs them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.backends.protocol import PAGE_TOKENS, Backend, Batch, BatchLimits
from vivace.models.decoder import Decoder


def logits(
    decoder: Decoder, backend: Backend, token_ids: list[int], slot: int = 0
) -> NDArray[np.float32]:
    """[len, vocab] of one batch without pages, with the adapter of a slot."""
    limits = BatchLimits(len(token_ids), 1, len(token_ids))
    program = backend.compile(decoder.logits, (), limits)
    ids = np.full(len(token_ids), slot, np.int32)
    batch = replace(_batch(token_ids, 0, ()), adapter_ids=ids)
    return backend.numpy(program.run(batch)).copy()


def paged_logits(
    decoder: Decoder, backend: Backend, token_ids: list[int], chunks: tuple[int, ...]
) -> NDArray[np.float32]:
    """[len, vocab], computed in chunks of the given sizes and then token by token, over pages
    in descending order."""
    blocks = -(-len(token_ids) // PAGE_TOKENS)
    groups = decoder.spec.kv_groups
    caches = [backend.kv_cache(group, blocks) for group in groups]
    tables = tuple(np.arange(blocks, dtype=np.int32)[None, ::-1].copy() for _ in groups)
    program = backend.compile(
        decoder.logits, caches, BatchLimits(len(token_ids), 1, len(token_ids))
    )
    starts = np.cumsum((0, *chunks)).tolist()
    starts += range(starts[-1] + 1, len(token_ids) + 1)
    rows = [
        backend.numpy(program.run(_batch(token_ids[:stop], start, tables))).copy()
        for start, stop in pairwise(starts)
    ]
    return np.concatenate(rows)


def _batch(token_ids: list[int], start: int, tables: tuple[Any, ...]) -> Batch:
    count = len(token_ids) - start
    return Batch(
        token_ids=np.asarray(token_ids[start:], np.int32),
        positions=np.arange(start, len(token_ids), dtype=np.int32),
        query_starts=np.asarray([0, count], np.int32),
        context_lens=np.asarray([len(token_ids)], np.int32),
        block_tables=tables,
        logit_rows=np.arange(count, dtype=np.int32),
    )
