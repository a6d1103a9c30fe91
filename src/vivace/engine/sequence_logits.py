"""Logits of a sequence of its own, apart from all requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from vivace.cache.blocks import KVManager, SequencePages
from vivace.cache.prefix import Scope
from vivace.core.errors import CapacityError
from vivace.core.request import Request
from vivace.core.stats import EngineInfo
from vivace.core.step import ScheduledSequence
from vivace.engine.plan import LOGIT_ROWS
from vivace.engine.requests import check_token_ids
from vivace.engine.runner import Runner


class SequenceLogits:
    """Computes between steps, in pages that it gives back."""

    def __init__(self, info: EngineInfo, kv: KVManager, runner: Runner) -> None:
        self._info = info
        self._kv = kv
        self._runner = runner

    def batches(
        self, token_ids: Sequence[int], adapter: str | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """float32 [rows, vocab] of its positions in turn, at most `LOGIT_ROWS` rows at a time; its
        pages are held until it ends.

        Raises:
            RequestError: there are no tokens, unknown ones, or more than the context holds; or
                the adapter is unknown.
            CapacityError: running requests hold the pages it needs.
        """
        check_token_ids(self._info, token_ids)
        adapters, sight = self._runner.adapters, self._info.sight.uncut
        request = adapters.bind(
            Request(uuid4().hex, tuple(token_ids), sight=sight, adapter=adapter)
        )
        pages = self._kv.allocate(list(token_ids), Scope(None, sight))
        if pages is None:
            raise CapacityError("Running requests hold the KV pages that this needs; wait.")
        adapters.enter(request)
        try:
            yield from self._batches(request, pages)
        finally:
            adapters.leave(request.request_id)
            self._kv.release(pages)

    def _batches(self, request: Request, pages: SequencePages) -> Iterator[NDArray[np.float32]]:
        tokens = list(request.prompt_token_ids)
        while pages.computed < len(tokens):
            start = pages.computed
            end = self._kv.extend(pages, min(start + LOGIT_ROWS, len(tokens)))
            chunk = ScheduledSequence(
                request, tokens, start, end - start, pages.tables, samples=False
            )
            yield self._runner.run_all_rows(chunk).copy()
            self._kv.commit(pages, end)
