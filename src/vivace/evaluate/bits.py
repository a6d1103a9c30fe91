"""Bits per byte: how well a model predicts text, whatever its tokenizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vivace.evaluate.corpus import HeldOutFile

Logits = Callable[[Sequence[int]], NDArray[np.float32]]  # token ids to [len, vocab]
Encode = Callable[[str], Sequence[int]]  # text to token ids, the first one a start token


@dataclass(frozen=True)
class Protocol:
    """How text is cut for scoring; figures compare within one protocol alone.

    Each file is encoded by itself, starts with its start token, which is not scored, and is read
    in windows of `context` tokens that begin every `stride` tokens. A token is scored once, in
    the first window that predicts it, so from the second window on with at least
    context - stride tokens before it.
    """

    context: int = 1024
    stride: int = 512

    def __post_init__(self) -> None:
        if not 0 < self.stride <= self.context:
            raise ValueError(f"stride must be 1 to context {self.context}, got {self.stride}")

    def windows(self, num_tokens: int) -> Iterator[tuple[int, int, int]]:
        """(start, first scored, end) of each window; predictions need one token beyond end."""
        scored, predictable = 0, num_tokens - 1
        for start in range(0, predictable, self.stride):
            end = min(start + self.context, predictable)
            yield start, scored, end
            scored = end
            if end == predictable:
                return


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
    logits: Logits, encode: Encode, texts: Iterable[HeldOutFile], protocol: Protocol | None = None
) -> BitsPerByte:
    """Score every text with a model.

    Args:
        logits: row i predicts token i + 1; e.g. `LLM.logits`.
        encode: adds the start token, and nothing at the end.
    """
    protocol = protocol or Protocol()
    nats, num_bytes, num_tokens = 0.0, 0, 0
    for text in texts:
        token_ids = list(encode(text.text))
        for start, first, end in protocol.windows(len(token_ids)):
            rows = logits(token_ids[start:end])[first - start :]
            nats += _negative_log_likelihood(rows, token_ids[first + 1 : end + 1])
        num_bytes += text.num_bytes
        num_tokens += len(token_ids) - 1
    return BitsPerByte(nats / math.log(2), num_bytes, num_tokens, protocol)


def _negative_log_likelihood(logits: NDArray[np.float32], targets: Sequence[int]) -> float:
    """In nats, summed over rows."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_totals = np.log(np.exp(shifted).sum(axis=-1, dtype=np.float64))
    return float((log_totals - shifted[np.arange(len(targets)), list(targets)]).sum())
