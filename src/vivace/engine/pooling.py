"""Hidden states to one vector for each request that asks for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vivace.core.step import Pooled, ScheduledSequence
from vivace.decoding.sampler import InvalidLogitsError

Rows = NDArray[np.float32]


class Pooler:
    """Sums what it is given in the order of positions, one after the other, so that neither chunks
    nor company change a bit."""

    def __init__(self) -> None:
        self._sums: dict[str, NDArray[np.float64]] = {}

    def check(self, hidden: Rows, sequences: Sequence[ScheduledSequence]) -> None:
        """Raises InvalidLogitsError where rows hold NaN or infinities; nothing was changed."""
        bad = [
            sequence.request.request_id
            for sequence, rows in _rows_read(hidden, sequences)
            if not np.isfinite(rows).all()
        ]
        if bad:
            raise InvalidLogitsError(bad)

    def take(self, hidden: Rows, sequences: Sequence[ScheduledSequence]) -> list[Pooled]:
        """The vectors of those whose last token is computed now.

        Args:
            hidden: [T, hidden_size], a row for each token of the sequences in turn.
        """
        done, sums = [], {}
        for sequence, rows in _rows_read(hidden, sequences):
            name = sequence.request.request_id
            before = self._sums.get(name)
            parts = rows if before is None else np.concatenate([before[None], rows])
            sums[name] = np.add.reduce(parts, axis=0, dtype=np.float64)
            if sequence.start + sequence.count == len(sequence.token_ids):
                count = 1 if sequence.request.pooling == "last" else len(sequence.token_ids)
                mean = (sums[name] / count).astype(np.float32)
                done.append(Pooled(name, tuple(mean.tolist())))
        self._sums |= sums
        for pooled in done:
            del self._sums[pooled.request_id]
        return done

    def forget(self, request_id: str) -> None:
        """The request ended early, or was none of these."""
        self._sums.pop(request_id, None)


def _rows_read(
    hidden: Rows, sequences: Sequence[ScheduledSequence]
) -> list[tuple[ScheduledSequence, Rows]]:
    """Each sequence that reads some rows, and those."""
    pairs, row = [], 0
    for sequence in sequences:
        if sequence.reads:
            first = row + sequence.reads.start - sequence.start
            pairs.append((sequence, hidden[first : first + len(sequence.reads)]))
        row += sequence.count
    return pairs


def unit(embedding: Sequence[float]) -> Rows:
    """The vector at length 1, as float32; one of zeros as it is."""
    vector = np.asarray(embedding, np.float64)
    length = float(np.linalg.norm(vector))
    return (vector / length if length else vector).astype(np.float32)
