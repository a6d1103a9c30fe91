"""A decoder's logits without an engine: one text at a time, on any backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vivace.backends.protocol import PAGE_TOKENS, Backend, Batch, BatchLimits
from vivace.models.decoder import Decoder


def logits_of(
    decoder: Decoder, backend: Backend, max_tokens: int
) -> Callable[[Sequence[int]], Iterator[NDArray[np.float32]]]:
    """Token ids, at most `max_tokens`, to [len, vocab] in one batch."""
    blocks = -(-max_tokens // PAGE_TOKENS)
    groups = decoder.spec.kv_groups
    caches = [backend.kv_cache(group, blocks) for group in groups]
    program = backend.compile(decoder.logits, caches, BatchLimits(max_tokens, 1, max_tokens))
    table = np.arange(blocks, dtype=np.int32)[None, :]

    def run(token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        count = len(token_ids)
        rows = np.arange(count, dtype=np.int32)
        batch = Batch(
            token_ids=np.asarray(token_ids, np.int32),
            positions=rows,
            query_starts=np.asarray([0, count], np.int32),
            context_lens=np.asarray([count], np.int32),
            block_tables=(table,) * len(groups),
            logit_rows=rows,
        )
        yield backend.numpy(program.run(batch))

    return run
