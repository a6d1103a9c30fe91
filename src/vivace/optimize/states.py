"""Hidden states of calibration text, carried through a model layer by layer on any backend.

A layer's input enters a backend as a table of embeddings whose rows are the tokens, so that each
part of a layer is an ordinary forward. Such a table is in the backend's dtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vivace.backends.protocol import PAGE_TOKENS, Backend, Batch, BatchLimits, KVSpec
from vivace.formats.qtensor import QTensor
from vivace.models.spec import LayerSpec, ModelSpec
from vivace.optimize.calibrate import TokenIds
from vivace.optimize.observe import Floats, Part

CHUNK_TOKENS = 2048


@dataclass
class HiddenStates:
    """What goes into the next layer.

    Attributes:
        chunks: of whole runs, [tokens, hidden_size] each.
        run_len: tokens of a run.
    """

    backend: Backend
    chunks: list[Floats]
    run_len: int

    @staticmethod
    def embedded(
        backend: Backend, table: QTensor, runs: Sequence[TokenIds], spec: ModelSpec
    ) -> HiddenStates:
        """Those of tokens, before the first layer."""
        at_once, run_len = max(CHUNK_TOKENS // len(runs[0]), 1), len(runs[0])
        multiplier = np.float32(spec.embedding_multiplier)
        rows = table.buffers["weight"]
        chunks = [
            rows[np.concatenate(runs[i : i + at_once])].astype(np.float32) * multiplier
            for i in range(0, len(runs), at_once)
        ]
        return HiddenStates(backend, chunks, run_len)

    def through(self, layer: LayerSpec, groups: Sequence[KVSpec]) -> LayerStates:
        return LayerStates(self, _alone(layer), groups[layer.attention.kv_group])


@dataclass
class LayerStates:
    """The hidden states before one layer, to run parts of it on."""

    states: HiddenStates
    spec: LayerSpec
    group: KVSpec

    def outputs(self, part: Part, chunks: int | None = None) -> Iterator[Floats]:
        """What a part of the layer makes of each chunk, or of the first `chunks` ones."""
        for x in self.states.chunks[:chunks]:
            yield self._run(part, x)

    def advance(self, part: Part) -> None:
        """Put the layer's outputs in the place of its inputs."""
        for i, x in enumerate(self.states.chunks):
            self.states.chunks[i] = self._run(part, x)

    def _run(self, part: Part, x: Floats) -> Floats:
        backend, batch = self.states.backend, _batch(len(x), self.states.run_len)
        table = backend.embedding(QTensor.from_array("hidden states", x))
        pages = int(batch.block_tables[0].size)
        caches = [backend.kv_cache(replace(self.group, num_layers=1), pages)]
        limits = BatchLimits(len(x), len(batch.context_lens), 1)
        program = backend.compile(lambda ops: part(ops, ops.embed(table)), caches, limits)
        outputs: Floats = backend.numpy(program.run(batch)).copy()
        return outputs


def _alone(layer: LayerSpec) -> LayerSpec:
    """The layer as the only one of its group."""
    return replace(layer, attention=replace(layer.attention, kv_group=0, kv_layer=0))


def _batch(tokens: int, run_len: int) -> Batch:
    runs, blocks = tokens // run_len, -(-run_len // PAGE_TOKENS)
    return Batch(
        token_ids=np.arange(tokens, dtype=np.int32),
        positions=np.tile(np.arange(run_len, dtype=np.int32), runs),
        query_starts=np.arange(0, tokens + 1, run_len, dtype=np.int32),
        context_lens=np.full(runs, run_len, np.int32),
        block_tables=(np.arange(runs * blocks, dtype=np.int32).reshape(runs, blocks),),
        logit_rows=np.zeros(1, np.int32),
    )
