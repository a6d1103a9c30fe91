"""Bits per byte: how well a model predicts text, whatever its tokenizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vivace.evaluate.corpus import TextFile
from vivace.evaluate.divergence import log_probabilities, negative_log_likelihood
from vivace.evaluate.plans import Protocol

Logits = Callable[[Sequence[int]], NDArray[np.float32]]  # token ids to [len, vocab]
Encode = Callable[[str], Sequence[int]]  # text to token ids, the first one a start token


@dataclass(frozen=True)
class BitsPerByte:
    """The sum over all files: `bits` to encode `num_bytes` of text in `num_tokens` tokens."""

    bits: float
    num_bytes: int
    num_tokens: int
    protocol: Protocol

    @property
    def value(self) -> float:
        return self.bits / self.num_bytes


def bits_per_byte(
    logits: Logits, encode: Encode, texts: Iterable[TextFile], protocol: Protocol | None = None
) -> BitsPerByte:
    """Score every text with whatever gives logits: one figure, while a model is in training for
    example. `scoring` has every figure of an engine, with intervals.

    Args:
        logits: row i predicts token i + 1; e.g. `LLM.logits`.
        encode: adds the start token, and nothing at the end.
    """
    protocol = protocol or Protocol()
    nats, num_bytes, num_tokens = 0.0, 0, 0
    for text in texts:
        token_ids = list(encode(text.text))
        for start, first, end in protocol.windows(len(token_ids)):
            rows = log_probabilities(logits(token_ids[start:end])[first - start :])
            nats += float(negative_log_likelihood(rows, token_ids[first + 1 : end + 1]).sum())
        num_bytes += text.num_bytes
        num_tokens += len(token_ids) - 1
    return BitsPerByte(nats / math.log(2), num_bytes, num_tokens, protocol)
