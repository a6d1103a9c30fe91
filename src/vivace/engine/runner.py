"""Runs a step on a backend: one ragged batch, one program call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from vivace.backends.protocol import (
    Backend,
    Batch,
    BatchLimits,
    IntArray,
    KVCache,
    Observed,
    Program,
)
from vivace.cache.pool import pages_per_shared, shared_page_tokens
from vivace.core.step import ScheduledSequence, Step
from vivace.engine.adapters import Adapters
from vivace.engine.cuts import PromptCuts
from vivace.models.decoder import Decoder


class Runner:
    """Owns the compiled program and the step's input buffers, which every step reuses.

    Attributes:
        adapters: what rows may have beside the weights.
        seconds: time spent in the program, in total.
    """

    def __init__(
        self,
        decoder: Decoder,
        backend: Backend,
        caches: Sequence[KVCache],
        limits: BatchLimits,
        adapters: Adapters,
    ) -> None:
        self.adapters = adapters
        self.seconds = 0.0
        self._backend = backend
        self._caches = tuple(caches)
        self._program = backend.compile(decoder.logits, caches, limits)
        self._compile_hidden = partial(backend.compile, decoder.hidden, caches, limits)
        self._vocab_size = decoder.spec.vocab_size
        groups = decoder.spec.kv_groups
        self._pages_per_shared = pages_per_shared(groups)
        self._page_tokens = shared_page_tokens(groups)
        blocks = -(-decoder.spec.max_model_len // self._page_tokens)
        self._token_ids = np.zeros(limits.max_tokens, np.int32)
        self._positions = np.zeros(limits.max_tokens, np.int32)
        self._query_starts = np.zeros(limits.max_sequences + 1, np.int32)
        self._context_lens = np.zeros(limits.max_sequences, np.int32)
        self._logit_rows = np.zeros(limits.max_logit_rows, np.int32)
        self._adapter_ids = np.zeros(limits.max_tokens, np.int32)
        self._sights = np.zeros((limits.max_sequences, 3), np.int32)
        self._cuts = PromptCuts(decoder.spec, backend, caches)
        self._tables = tuple(
            np.zeros((limits.max_sequences, blocks * count), np.int32)
            for count in self._pages_per_shared
        )

    def run(self, step: Step) -> NDArray[np.float32]:
        """Logits [R, vocab] of the rows that `Step` names; valid until the next run."""
        sequences = step.generating
        if not sequences:
            return np.zeros((0, self._vocab_size), np.float32)
        rows = 0
        reading: list[int] = []
        for s, sequence in enumerate(sequences):
            self._fill(s, sequence)
            if sequence.samples:
                self._logit_rows[rows] = self._query_starts[s + 1] - 1
                rows += 1
            if sequence.reads:
                first = int(self._query_starts[s]) - sequence.start
                reading.extend(first + position for position in sequence.reads)
        end = rows + len(reading)
        self._logit_rows[rows:end] = reading
        observed = self._cuts.observed(sequences)
        logits = self._run(self._program, len(sequences), self._logit_rows[:end], observed)
        if observed is not None:
            self._cuts.take(sequences, observed)
        return logits

    def cut_prompts(self, step: Step) -> None:
        """Keep of the prompts that this step completed what their requests ask for. Then the step
        cannot be run again."""
        self._cuts.cut(step.generating)

    def forget(self, request_id: str) -> None:
        """The request ended; unknown ids are ignored."""
        self._cuts.forget(request_id)

    def release_pages(self, pages: Sequence[Sequence[int]]) -> None:
        """Nobody will use these pages, given per group, again: the system may have their memory."""
        for cache, given_up, count in zip(self._caches, pages, self._pages_per_shared, strict=True):
            ids = [page * count + place for page in given_up for place in range(count)]
            self._backend.release_pages(cache, ids)

    def run_hidden(self, sequences: Sequence[ScheduledSequence]) -> NDArray[np.float32]:
        """The final hidden states [T, hidden_size] of all their rows; valid until the next run."""
        for s, sequence in enumerate(sequences):
            self._fill(s, sequence)
        return self._run(self._hidden_program, len(sequences), self._logit_rows[:0])

    @cached_property
    def _hidden_program(self) -> Program:
        """Compiled when it is first needed: few servers pool."""
        return self._compile_hidden()

    def run_all_rows(self, sequence: ScheduledSequence) -> NDArray[np.float32]:
        """Logits [count, vocab] of every row of one sequence; count is at most LOGIT_ROWS."""
        self._fill(0, sequence)
        return self._run(self._program, 1, np.arange(sequence.count, dtype=np.int32))

    def _fill(self, s: int, sequence: ScheduledSequence) -> None:
        start, end = sequence.start, sequence.start + sequence.count
        row = int(self._query_starts[s])
        rows = slice(row, row + sequence.count)
        place = sequence.request.adapter_place
        self._adapter_ids[rows] = 0 if place is None else place.slot
        self._token_ids[rows] = sequence.token_ids[start:end]
        self._positions[rows] = range(start, end) if sequence.count > 1 else start
        self._query_starts[s + 1] = row + sequence.count
        self._context_lens[s] = end
        sight = sequence.request.sight
        first = sight.first_recent(start) if sight.window is None else 0
        self._sights[s] = sight.window or 0, sight.sinks, first
        blocks = -(-end // self._page_tokens)
        tables = zip(self._tables, sequence.block_tables, self._pages_per_shared, strict=True)
        for table, pages, count in tables:
            _fill_table(table[s, : blocks * count], pages[:blocks], count)

    def _run(
        self,
        program: Program,
        num_sequences: int,
        logit_rows: IntArray,
        observed: Observed | None = None,
    ) -> NDArray[np.float32]:
        tokens = int(self._query_starts[num_sequences])
        adapter_ids = self._adapter_ids[:tokens]
        sights = self._sights[:num_sequences]
        batch = Batch(
            self._token_ids[:tokens],
            self._positions[:tokens],
            self._query_starts[: num_sequences + 1],
            self._context_lens[:num_sequences],
            tuple(table[:num_sequences] for table in self._tables),
            logit_rows,
            adapter_ids=adapter_ids if adapter_ids.any() else None,
            sights=sights if sights.any() else None,
            observed=observed,
        )
        started = time.perf_counter()
        result = program.run(batch)
        self.seconds += time.perf_counter() - started
        return self._backend.numpy(result)


def _fill_table(row: IntArray, pages: Sequence[int], count: int) -> None:
    """Each page of the books is `count` consecutive ones of the backend."""
    if count == 1:
        row[:] = pages
        return
    row[:] = (np.asarray(pages, np.int32)[:, None] * count + np.arange(count)).ravel()
