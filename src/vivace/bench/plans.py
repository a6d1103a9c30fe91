"""What each measuring command can be told; a plan costs nothing to import."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LatencyPlan:
    """Attributes:
    input_len: tokens of each prompt.
    output_len: new tokens of each answer.
    batch_size: requests that start together.
    num_iters: batches measured.
    num_iters_warmup: batches run before.
    """

    input_len: int = 32
    output_len: int = 128
    batch_size: int = 1
    num_iters: int = 5
    num_iters_warmup: int = 1


@dataclass(frozen=True)
class ThroughputPlan:
    """Attributes:
    input_len: tokens of each prompt.
    output_len: new tokens of each answer.
    num_prompts: requests, all submitted at once.
    """

    input_len: int = 128
    output_len: int = 64
    num_prompts: int = 64
