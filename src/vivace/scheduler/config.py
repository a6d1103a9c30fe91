"""The limits of a step, and what the scheduler counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vivace.core.errors import UsageError


@dataclass(frozen=True)
class SchedulerConfig:
    """Attributes:
    max_num_seqs: sequences running at once.
    max_num_batched_tokens: tokens computed in one step.
    max_prefill_chunk: tokens of one sequence computed in one step; None is no limit of its own.
    max_prefill_beside_decodes: tokens of prompts computed in a step in which others decode, of
        no worse priority: it bounds how long their next tokens wait.
    target_itl_ms: milliseconds between two tokens of a stream that neither more sequences nor
        prefill beside it may exceed; it takes the place of max_prefill_beside_decodes.
    target_ttft_ms: milliseconds to a first token; without target_itl_ms, prefill gets of each step
        as little as is in time.
    max_scoring_rows: rows of logits in one step beside the one that each sequence may have.

    Raises:
        UsageError: a limit is below 1, or a target not above 0.
    """

    max_num_seqs: int = 64
    max_num_batched_tokens: int = 512
    max_prefill_chunk: int | None = None
    max_prefill_beside_decodes: int = 128
    target_itl_ms: float | None = None
    target_ttft_ms: float | None = None
    max_scoring_rows: int = 64

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is None:
                continue
            if name.startswith("target") and not value > 0:
                raise UsageError(f"{name} must be above 0, got {value}.")
            if not name.startswith("target") and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}.")

    @property
    def max_running(self) -> int:
        """A step has at least one token for every running sequence."""
        return min(self.max_num_seqs, self.max_num_batched_tokens)

    @property
    def max_chunk(self) -> int:
        return min(
            self.max_prefill_chunk or self.max_num_batched_tokens, self.max_num_batched_tokens
        )


@dataclass(frozen=True)
class PolicyConfig:
    """Whose turn it is, and how many may queue for it.

    Attributes:
        max_wait_seconds: who waited that long is served in order of arrival; None is no bound.
        tenant_weights: shares of the engine; a tenant that is not in it has weight 1.
        max_queued_requests: requests that wait; None is no limit.
        max_queued_tokens: uncomputed tokens of the requests that wait; None is no limit.
    """

    max_wait_seconds: float | None = 300.0
    tenant_weights: Mapping[str, float] = field(default_factory=dict)
    max_queued_requests: int | None = None
    max_queued_tokens: int | None = None


@dataclass
class SchedulerCounters:
    """Counts since start. What is computed again after a preemption counts once.

    Attributes:
        preemptions: seats lost, with or without pages.
        prompt_tokens: of requests that drew a first token.
        prefix_query_tokens: prompt tokens looked up in the prefix cache.
        prefix_hit_tokens: those of them found there.
        prefix_host_tokens: of these, tokens that came up from host memory.
        prefix_disk_tokens: and from disk.
    """

    preemptions: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    prefix_query_tokens: int = 0
    prefix_hit_tokens: int = 0
    prefix_host_tokens: int = 0
    prefix_disk_tokens: int = 0
