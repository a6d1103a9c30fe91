"""Cuts prompts: keeps what their last rows look at (cache/snap.py)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vivace.backends.protocol import AttentionSpec, Backend, KVCache, Observed
from vivace.cache.snap import GroupCutter
from vivace.core.sight import OBSERVED_TOKENS
from vivace.core.step import ScheduledSequence
from vivace.models.spec import ModelSpec

Floats = NDArray[np.float32]


class PromptCuts:
    """Collects the queries of prompts' last rows from step to step, and cuts a prompt once it is
    computed. Groups with a window are left as they are: their rows see the last positions anyway.
    """

    def __init__(self, spec: ModelSpec, backend: Backend, caches: Sequence[KVCache]) -> None:
        attentions = [layer.attention for layer in spec.layers]
        self._cutters = [
            GroupCutter(backend, cache, group, _in_order(attentions, index))
            for index, (group, cache) in enumerate(zip(spec.kv_groups, caches, strict=True))
        ]
        self._queries: dict[str, tuple[Floats, ...]] = {}  # as `_places` makes them, by request

    def observed(self, sequences: Sequence[ScheduledSequence]) -> Observed | None:
        """What to ask of the program that runs them in one batch."""
        rows = [row for _, row, _ in _last_rows(sequences)]
        if not rows:
            return None
        return Observed(np.asarray(rows, np.int32), self._places(len(rows)))

    def take(self, sequences: Sequence[ScheduledSequence], observed: Observed) -> None:
        """Collect what the program left."""
        for index, (request_id, _, place) in enumerate(_last_rows(sequences)):
            if place == 0:  # it is computed for the first time, or once more
                self._queries[request_id] = self._places(OBSERVED_TOKENS)
            for mine, found in zip(self._queries[request_id], observed.queries, strict=True):
                mine[:, place] = found[:, index]

    def cut(self, sequences: Sequence[ScheduledSequence]) -> None:
        """Cut the prompts that this step has completed."""
        for sequence in sequences:
            if sequence.start + sequence.count == sequence.request.sight.cut:
                self._cut(sequence)

    def forget(self, request_id: str) -> None:
        """It ended before its cut; unknown ids are ignored."""
        self._queries.pop(request_id, None)

    def _cut(self, sequence: ScheduledSequence) -> None:
        queries = self._queries.pop(sequence.request.request_id, None)
        if queries is None:  # it ended in this very step
            return
        sight = sequence.request.sight
        assert sight.cut is not None
        groups = zip(self._cutters, queries, sequence.block_tables, strict=True)
        for cutter, of_group, table in groups:
            if cutter.spec.window is None:
                cutter.keep(of_group, table, sight.first_kept, sight.cut)

    def _places(self, rows: int) -> tuple[Floats, ...]:
        """Room for queries: per group [layers, rows, heads * head_dim]."""
        of_groups = [cutter.layers for cutter in self._cutters]
        return tuple(
            np.zeros((len(layers), rows, layers[0].num_heads * layers[0].head_dim), np.float32)
            for layers in of_groups
        )


def _in_order(layers: Sequence[AttentionSpec], group: int) -> list[AttentionSpec]:
    return sorted((one for one in layers if one.kv_group == group), key=lambda one: one.kv_layer)


def _last_rows(sequences: Sequence[ScheduledSequence]) -> list[tuple[str, int, int]]:
    """Rows of a batch that are among the last of a prompt that is cut: whose, which row of the
    batch, which of the last."""
    found, row = [], 0
    for sequence in sequences:
        cut = sequence.request.sight.cut
        if cut is not None and sequence.start < cut:
            first = cut - OBSERVED_TOKENS
            positions = range(max(sequence.start, first), sequence.start + sequence.count)
            found += [
                (sequence.request.request_id, row + position - sequence.start, position - first)
                for position in positions
            ]
        row += sequence.count
    return found
