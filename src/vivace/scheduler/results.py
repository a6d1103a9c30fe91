"""What a step's results mean for the requests in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vivace.core.request import Delta, Logprob
from vivace.core.step import Advance, Picked, Pooled, ScheduledSequence, Scored
from vivace.scheduler.config import SchedulerCounters
from vivace.scheduler.sequence import Sequence


@dataclass(frozen=True)
class Results:
    """What decoding made of a step, each by request."""

    picked: Mapping[str, Picked]
    advances: Mapping[str, Advance]
    logprobs: Mapping[str, tuple[dict[int, Logprob], ...]]
    vectors: Mapping[str, tuple[float, ...]]

    @staticmethod
    def of(
        picked: Iterable[Picked],
        advances: Iterable[Advance],
        scored: Iterable[Scored],
        pooled: Iterable[Pooled],
    ) -> Results:
        return Results(
            {one.request_id: one for one in picked},
            {one.request_id: one for one in advances},
            {one.request_id: one.logprobs for one in scored},
            {one.request_id: one.embedding for one in pooled},
        )

    def take_in(
        self, sequence: Sequence, scheduled: ScheduledSequence, counters: SchedulerCounters
    ) -> Delta | None:
        """Append the token that a sequence drew; what its request gets of this step, or None."""
        request_id = sequence.request.request_id
        if request_id in self.vectors:
            return self._vector(sequence, counters)
        if scheduled.samples:
            return self._token(sequence, counters)
        if request_id in self.logprobs:
            return Delta(request_id, prompt_logprobs=self.logprobs[request_id])
        return None

    def _vector(self, sequence: Sequence, counters: SchedulerCounters) -> Delta:
        counters.prompt_tokens += len(sequence.tokens)
        return Delta(
            sequence.request.request_id,
            finish_reason="stop",
            num_cached_tokens=sequence.num_cached_tokens,
            num_preemptions=sequence.num_preemptions,
            embedding=self.vectors[sequence.request.request_id],
        )

    def _token(self, sequence: Sequence, counters: SchedulerCounters) -> Delta:
        request_id = sequence.request.request_id
        picked, advance = self.picked[request_id], self.advances[request_id]
        first = sequence.is_prompt
        if first:
            counters.prompt_tokens += len(sequence.tokens)
        counters.generation_tokens += 1
        sequence.tokens.append(picked.token_id)
        return Delta(
            request_id=request_id,
            token_ids=(picked.token_id,),
            text=advance.text,
            logprobs=None if picked.logprobs is None else (picked.logprobs,),
            finish_reason=advance.finish_reason,
            stop_reason=advance.stop_reason,
            num_cached_tokens=sequence.num_cached_tokens,
            num_preemptions=sequence.num_preemptions,
            queue_seconds=sequence.queue_seconds if first else None,
            prompt_logprobs=self.logprobs.get(request_id),
        )
