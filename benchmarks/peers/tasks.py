"""What is timed: prefill-N and decode-BxC, and start (from nothing to a first token)."""

from __future__ import annotations

from dataclasses import dataclass

PREFILLS = (128, 512, 2048)
BATCHES = (1, 4, 16, 32)
CONTEXTS = (64, 1024)
STEPS = {1: 48, 4: 16}
FEWEST_STEPS = 8
START = "start"
START_PROMPT = 32


@dataclass(frozen=True)
class Task:
    """`rate` turns seconds into tokens per second.

    Attributes:
        kind: the worker's name for it.
        numbers: what the worker is given.
        tokens: computed or drawn in one run.
        context: of the cache when it begins.
    """

    name: str
    kind: str
    numbers: tuple[int, ...]
    tokens: int
    context: int = 0

    @property
    def length(self) -> int:
        """Tokens of the longest sequence it makes."""
        return self.context + max(self.numbers[-1], 1) + 1

    def rate(self, seconds: float) -> float:
        return self.tokens / seconds


def prefill(tokens: int) -> Task:
    return Task(f"prefill-{tokens}", "prefill", (tokens,), tokens)


def decode(batch: int, context: int) -> Task:
    steps = STEPS.get(batch, FEWEST_STEPS)
    numbers = (batch, context, steps)
    return Task(f"decode-{batch}x{context}", "decode", numbers, batch * steps, context)


ALL = (
    *(prefill(tokens) for tokens in PREFILLS),
    *(decode(batch, context) for context in CONTEXTS for batch in BATCHES),
)
# At the end of the model's context; only asked for by name.
LONGEST = decode(1, 4032)
TASKS = {task.name: task for task in (*ALL, LONGEST)}
