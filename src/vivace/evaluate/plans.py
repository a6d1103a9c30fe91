"""What an evaluation can be told; a plan costs nothing to import."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vivace.core.errors import UsageError


@dataclass(frozen=True)
class Protocol:
    """How text is cut for scoring; figures compare within one protocol alone.

    Each file is encoded by itself and read in windows of `context` tokens that begin every
    `stride` tokens. Its first token, a start token where the tokenizer adds one, is not scored.
    Every other is scored once, in the first window that predicts it, so from the second window on
    with at least context - stride tokens before it.

    Attributes:
        context: tokens that a model reads at once.
        stride: tokens between the beginnings of two windows; at most the context.
    """

    context: int = 1024
    stride: int = 512

    def __post_init__(self) -> None:
        if not 0 < self.stride <= self.context:
            raise UsageError(f"stride must be 1 to context {self.context}, got {self.stride}.")

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
class EvalPlan:
    """How much of a text is measured, what two models continue (the beginnings of windows at even
    distances), and how often a model is asked for what it read.

    Attributes:
        max_windows: windows scored, at even distances; None is all of the text's.
        greedy_prompts: texts that both models continue.
        greedy_prompt_len: tokens of each.
        greedy_len: new tokens of each.
        recall_prompts: values hidden in the text and asked for at its end; None asks for none.
    """

    max_windows: int | None = None
    greedy_prompts: int = 32
    greedy_prompt_len: int = 128
    greedy_len: int = 64
    recall_prompts: int | None = None
