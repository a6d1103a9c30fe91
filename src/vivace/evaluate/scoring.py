"""Runs models over the windows of a text and keeps a few numbers of each token.

Logits come in batches of rows and are gone after them: what is held at a time is a batch of each
model, and the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from vivace.core.errors import UsageError
from vivace.evaluate.corpus import TextFile
from vivace.evaluate.divergence import (
    Doubles,
    kl_divergence,
    log_probabilities,
    negative_log_likelihood,
    same_top1,
)
from vivace.evaluate.plans import Protocol

Progress: TypeAlias = Callable[[int, int], None]
# Token ids to [rows, vocab] in batches, row i predicting token i + 1: `LLM.logit_batches`.
LogitBatches: TypeAlias = Callable[[Sequence[int]], Iterator[NDArray[np.float32]]]


class Encoder(Interface):
    """What scoring needs of a tokenizer."""

    def encode(self, text: str) -> list[int]: ...

    def token_bytes(self, token_id: int) -> bytes: ...


@dataclass(frozen=True)
class Window:
    """What a model reads at once: the unit that intervals resample.

    Attributes:
        token_ids: all of it.
        targets: the tokens that its last rows predict, one for each.
        num_bytes: the text that these stand for.
    """

    token_ids: list[int]
    targets: list[int]
    num_bytes: int

    @property
    def first(self) -> int:
        """The first row that is scored."""
        return len(self.token_ids) - len(self.targets)


@dataclass(frozen=True)
class Beside:
    """Each token beside a base model, [tokens] all: see `divergence`."""

    base_nats: Doubles
    kl: Doubles
    same_top1: NDArray[np.bool_]


@dataclass(frozen=True)
class Scores:
    """Each scored token, in the order of the windows.

    Attributes:
        nats: [tokens], -ln p.
        windows: [tokens], the window it was scored in.
        places: [tokens], how many tokens of its window stood before it.
    """

    nats: Doubles
    windows: NDArray[np.int64]
    places: NDArray[np.int64]
    beside: Beside | None = None


def cut(
    texts: Iterable[TextFile],
    encoder: Encoder,
    protocol: Protocol,
    max_windows: int | None = None,
) -> list[Window]:
    """The windows of all texts, or `max_windows` of them at even distances.

    Raises:
        UsageError: there is nothing to score.
    """
    windows = [window for text in texts for window in _windows(text.text, encoder, protocol)]
    if not windows:
        raise UsageError("The text is shorter than two tokens; give more of it.")
    kept = len(windows) if max_windows is None else min(max_windows, len(windows))
    return [windows[place * len(windows) // kept] for place in range(kept)]


def score(
    model: LogitBatches,
    windows: Sequence[Window],
    base: LogitBatches | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Score every window, beside a base model of the same vocabulary where one is given.

    `progress` is told how many tokens were read, of how many.
    """
    parts, done = [], 0
    total = sum(len(window.token_ids) for window in windows)
    for window in windows:
        parts += _alone(model, window) if base is None else _beside(model, base, window)
        done += len(window.token_ids)
        if progress is not None:
            progress(done, total)
    nats, *others = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Scores(
        nats,
        np.repeat(np.arange(len(windows)), [len(window.targets) for window in windows]),
        np.concatenate([1 + np.arange(w.first, len(w.token_ids)) for w in windows]),
        Beside(*others) if others else None,
    )


def predictions(model: LogitBatches, window: Window) -> Iterator[tuple[Doubles, list[int]]]:
    """Log-probabilities of a window's rows that are scored, batch by batch, and their targets."""
    end = -window.first  # rows scored so far; below 0 while those before are passed over
    for logits in model(window.token_ids):
        start, end = max(end, 0), end + len(logits)
        if end > start:
            yield log_probabilities(logits[start - end :]), window.targets[start:end]


def _windows(text: str, encoder: Encoder, protocol: Protocol) -> Iterator[Window]:
    token_ids = encoder.encode(text)
    for start, first, end in protocol.windows(len(token_ids)):
        targets = token_ids[first + 1 : end + 1]
        yield Window(
            token_ids[start:end], targets, sum(len(encoder.token_bytes(t)) for t in targets)
        )


_Columns: TypeAlias = tuple[NDArray[Any], ...]


def _alone(model: LogitBatches, window: Window) -> list[_Columns]:
    return [
        (negative_log_likelihood(rows, targets),) for rows, targets in predictions(model, window)
    ]


def _beside(model: LogitBatches, base: LogitBatches, window: Window) -> list[_Columns]:
    return [
        (
            negative_log_likelihood(rows, targets),
            negative_log_likelihood(base_rows, targets),
            kl_divergence(base_rows, rows),
            same_top1(base_rows, rows),
        )
        for (rows, targets), (base_rows, _) in zip(
            predictions(model, window), predictions(base, window), strict=True
        )
    ]
