"""What a student reads, in an order that a step's number and a seed say alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vivace.core.errors import UsageError
from vivace.optimize.calibrate import TokenIds


class Batches:
    """Runs of packed documents. Each epoch packs all of them in another order and cuts them into
    runs, which are read in random order.

    Args:
        documents: token ids of each, with its start token.
        runs: in a batch.
        length: tokens of a run.

    Raises:
        UsageError: there is less text than a batch.
    """

    def __init__(
        self, documents: Sequence[TokenIds], runs: int, length: int, seed: int = 0
    ) -> None:
        self._documents = documents
        self._shape = runs, length
        self._seed = seed
        total = sum(map(len, documents))
        self.per_epoch = total // length // runs
        if not self.per_epoch:
            raise UsageError(
                f"The text has {total} tokens, less than a batch of {runs * length}; give more of "
                "it, or a smaller --batch-tokens."
            )
        self._epoch, self._runs = 0, self._read(0)

    def at(self, step: int) -> NDArray[np.int32]:
        """Token ids [runs, length]."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._runs = epoch, self._read(epoch)
        count = self._shape[0]
        return self._runs[place * count : (place + 1) * count]

    def _read(self, epoch: int) -> NDArray[np.int32]:
        rng = np.random.default_rng((self._seed, epoch))
        order = rng.permutation(len(self._documents))
        tokens = np.concatenate([self._documents[i] for i in order])
        length = self._shape[1]
        runs = tokens[: len(tokens) // length * length].reshape(-1, length)
        return runs[rng.permutation(len(runs))]
