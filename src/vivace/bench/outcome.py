"""What became of one request to a server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """Times are seconds.

    Attributes:
        start: when the request was sent, after the run began.
        input_len: tokens of the prompt as the server counted them, else as they were sent; None
            where neither is known.
        output_len: tokens of the answer, as the server counted them, else its chunks.
        counted: the server told the length of the answer.
        ttft: from sending to the first token.
        itls: gaps between chunks after the first.
        latency: from sending to the end of the answer.
        text: the answer.
        error: why it failed; None where it did not, and then all the rest holds.
    """

    start: float
    input_len: int | None = None
    output_len: int = 0
    counted: bool = False
    ttft: float = 0.0
    itls: tuple[float, ...] = ()
    latency: float = 0.0
    text: str = ""
    error: str | None = None

    @property
    def tpot(self) -> float | None:
        """Seconds per output token after the first; None for a single token."""
        if self.output_len < 2:
            return None
        return (self.latency - self.ttft) / (self.output_len - 1)
