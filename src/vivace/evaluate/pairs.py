"""Associative recall: pairs of a key and a value, and then a key again, whose value comes next.

Keys and values are tokens drawn at random, so that nothing but reading a pair tells it. (Ba et al.,
fast weights, NeurIPS 2016; with many questions, Arora et al., Zoology, ICLR 2024.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KEYS, VALUES = 256, 64
VOCABULARY = KEYS + VALUES


@dataclass(frozen=True)
class Pairs:
    """Attributes:
    keys: int32 [pairs], tokens below KEYS, each once.
    values: int32 [pairs], tokens from KEYS on.
    asked: [questions], the pairs that are asked for, in order, each at most once.
    """

    keys: NDArray[np.int32]
    values: NDArray[np.int32]
    asked: NDArray[np.intp]

    @staticmethod
    def draw(rng: np.random.Generator, pairs: int, questions: int) -> Pairs:
        """At most KEYS pairs, and no more questions than pairs."""
        keys = rng.permutation(KEYS)[:pairs].astype(np.int32)
        values = rng.integers(KEYS, VOCABULARY, pairs, np.int32)
        return Pairs(keys, values, rng.permutation(pairs)[:questions])

    @property
    def context(self) -> NDArray[np.int32]:
        """The pairs: key, value, key, value, ..."""
        return np.stack([self.keys, self.values], axis=1).reshape(-1)

    @property
    def answers(self) -> NDArray[np.int32]:
        """The questions with their answers: key, value, key, value, ..."""
        return self.context.reshape(-1, 2)[self.asked].reshape(-1)
