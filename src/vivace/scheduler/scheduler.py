"""Who computes how much in the next step.

There are no phases: a sequence runs "tokens known minus tokens computed", cut to one token budget
per step (continuous batching: Yu et al., Orca, OSDI 2022; chunked prefill beside decodes: Agrawal
et al., Sarathi-Serve, OSDI 2024). Where pages run out, the last in rank is preempted and computed
again later (recompute preemption: Kwon et al., PagedAttention, SOSP 2023).

Why it always progresses: the first running sequence may preempt all others, and `add` refuses
what does not fit alone; with none running every page is available to the first waiting one.
"""

from __future__ import annotations

from collections.abc import Iterable

from vivace.cache.blocks import KVManager
from vivace.cache.prefix import IntegrityError
from vivace.core.errors import RequestError
from vivace.core.request import Delta, Request
from vivace.core.step import Advance, Picked, ScheduledSequence, Step
from vivace.scheduler.config import SchedulerConfig, SchedulerCounters
from vivace.scheduler.queue import Policy, RankedQueue, first_come_first_served
from vivace.scheduler.sequence import Sequence

__all__ = ["Scheduler", "SchedulerConfig"]


class Scheduler:
    """Single-threaded. After `schedule` comes `update` with the same step, or nothing where the
    step failed: the next one then computes the same again. Requests may be added and aborted at
    any time between.

    Args:
        config: the limits of a step.
        kv: the pages; the scheduler is their only user.
        policy: who runs first, and who is preempted last.
    """

    def __init__(
        self, config: SchedulerConfig, kv: KVManager, policy: Policy = first_come_first_served
    ) -> None:
        self.counters = SchedulerCounters()
        self._kv = kv
        self._policy = policy
        self._config = config
        self._max_running = config.max_running
        self._max_chunk = config.max_chunk
        self._alive: dict[str, Sequence] = {}
        self._waiting = RankedQueue()
        self._running = RankedQueue()
        self._num_added = 0
        self._refused: tuple[Sequence, int] | None = None  # and the pages returned by then

    @property
    def has_work(self) -> bool:
        return bool(self._alive)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def add(self, request: Request) -> None:
        """Queue a request. `params.max_tokens` must be a number.

        Raises:
            RequestError: it can never fit in the KV pages, or its id is in use.
        """
        max_tokens = request.params.max_tokens
        if request.request_id in self._alive:
            raise RequestError(f"request_id {request.request_id!r} is in use.", "request_id")
        if not request.prompt_token_ids:
            raise RequestError("The prompt is empty; give at least one token.", "prompt")
        if max_tokens is None:
            raise RequestError("max_tokens must be a number here.", "max_tokens")
        # the last token is drawn and never computed
        if not self._kv.can_hold(len(request.prompt_token_ids) + max_tokens - 1):
            raise RequestError(
                f"A prompt of {len(request.prompt_token_ids)} tokens and max_tokens of "
                f"{max_tokens} need more than all KV pages; lower them or raise the KV memory.",
                "max_tokens",
            )
        sequence = Sequence(request, self._policy(request, self._num_added))
        self._num_added += 1
        self._alive[request.request_id] = sequence
        self._waiting.push(sequence)

    def abort(self, request_id: str) -> bool:
        """Forget a request and give back its pages now. False where the id is unknown."""
        sequence = self._alive.get(request_id)
        if sequence is None:
            return False
        self._remove(sequence)
        return True

    def schedule(self) -> Step:
        """Choose what to compute now; empty only when there is no work.

        Running sequences come first, each with at least one token, then waiting ones. The step
        refers to live token lists and block tables, which stay as they are until `update`.
        """
        budget = self._step_budget()
        chosen = self._continue_running(budget)
        self._admit(chosen, budget)
        return Step(tuple(chosen))

    def update(
        self, step: Step, picked: Iterable[Picked], advances: Iterable[Advance]
    ) -> list[Delta]:
        """Take in a step's results: append tokens, share full pages, finish and free.

        Args:
            picked: one for each sampling sequence that is still alive.
            advances: likewise.
        """
        tokens = {one.request_id: one for one in picked}
        texts = {one.request_id: one for one in advances}
        deltas = []
        for scheduled in step.sequences:
            request_id = scheduled.request.request_id
            sequence = self._alive.get(request_id)
            # aborted since; its id may even stand for another request by now
            if sequence is None or sequence.tokens is not scheduled.token_ids:
                continue
            assert sequence.pages is not None
            self._kv.commit(sequence.pages, scheduled.start + scheduled.count)
            if scheduled.samples:
                deltas.append(self._append(sequence, tokens[request_id], texts[request_id]))
        return deltas

    def check_integrity(self) -> None:
        """Raises IntegrityError if pages or sequences are lost, or counted wrong."""
        self._kv.check_integrity()
        alive = {*self._waiting, *self._running}
        if alive != set(self._alive.values()):
            raise IntegrityError("A sequence is neither waiting nor running.")
        if any(sequence.pages is not None for sequence in self._waiting):
            raise IntegrityError("A waiting sequence holds pages.")
        if {sequence.pages for sequence in self._running} != self._kv.live_sequences():
            raise IntegrityError("Pages are held for a sequence that does not run.")

    def _step_budget(self) -> int:
        """Tokens of the next step; less prefill where it would keep others from decoding."""
        config, running = self._config, self._running
        decoding = sum(sequence.decodes for sequence in running)
        if not decoding:
            return config.max_num_batched_tokens
        mixed = max(decoding + config.max_prefill_beside_decodes, len(running))
        return min(config.max_num_batched_tokens, mixed)

    def _continue_running(self, budget: int) -> list[ScheduledSequence]:
        running = self._running
        chosen: list[ScheduledSequence] = []
        while len(chosen) < len(running):  # preemption takes from the end of `running`
            index = len(chosen)
            later = len(running) - index - 1  # one token is kept for each of these
            scheduled = self._continue(running[index], budget - later)
            if scheduled is not None:
                chosen.append(scheduled)
                budget -= scheduled.count
        return chosen

    def _continue(self, sequence: Sequence, allowance: int) -> ScheduledSequence | None:
        """The sequence's share of the step; None if it had to be preempted itself."""
        pages = sequence.pages
        assert pages is not None
        if not sequence.decodes:
            self._count_hit(sequence, self._kv.catch_up(pages))
        while True:
            scheduled = self._plan(sequence, allowance)
            if scheduled is not None:
                return scheduled
            victim = self._running.pop(-1)
            self._preempt(victim)
            if victim is sequence:
                return None

    def _plan(self, sequence: Sequence, allowance: int) -> ScheduledSequence | None:
        """As many tokens as allowed and as there are pages for; None for none."""
        pages = sequence.pages
        assert pages is not None
        start, known = pages.computed, len(sequence.tokens)
        end = self._kv.extend(pages, start + min(known - start, allowance, self._max_chunk))
        if end <= start:
            return None
        return ScheduledSequence(
            sequence.request, sequence.tokens, start, end - start, pages.tables, end == known
        )

    def _admit(self, chosen: list[ScheduledSequence], budget: int) -> None:
        """Start waiting sequences in order, while there are tokens, seats and pages."""
        budget -= sum(scheduled.count for scheduled in chosen)
        while budget and self._waiting and len(self._running) < self._max_running:
            sequence = self._waiting[0]
            if not self._open(sequence):
                return
            self._waiting.pop(0)
            self._running.push(sequence)
            scheduled = self._plan(sequence, budget)
            assert scheduled is not None  # `_open` made sure
            chosen.append(scheduled)
            budget -= scheduled.count

    def _open(self, sequence: Sequence) -> bool:
        """Give a waiting sequence its shared pages, if all its known tokens will fit."""
        kv, running = self._kv, len(self._running)
        if self._refused == (sequence, kv.pages_returned):
            return False
        # each running sequence may need a page soon: without these the newcomer is soon preempted
        pages = kv.allocate(sequence.tokens, sequence.request.cache_salt, spare=running)
        if pages is None:
            self._refused = (sequence, kv.pages_returned)
            return False
        sequence.pages = pages
        if not sequence.preempted:
            self.counters.prefix_query_tokens += len(sequence.tokens)
        self._count_hit(sequence, pages.computed)
        return True

    def _count_hit(self, sequence: Sequence, num_tokens: int) -> None:
        if not sequence.preempted:
            sequence.num_cached_tokens += num_tokens
            self.counters.prefix_hit_tokens += num_tokens

    def _preempt(self, sequence: Sequence) -> None:
        """Back to its place in the queue, with its tokens and without pages."""
        self._close(sequence)
        sequence.preempted = True
        self.counters.preemptions += 1
        self._waiting.push(sequence)

    def _append(self, sequence: Sequence, picked: Picked, advance: Advance) -> Delta:
        if len(sequence.tokens) == len(sequence.request.prompt_token_ids):
            self.counters.prompt_tokens += len(sequence.tokens)
        self.counters.generation_tokens += 1
        sequence.tokens.append(picked.token_id)
        if advance.finish_reason is not None:
            self._remove(sequence)
        return Delta(
            request_id=picked.request_id,
            token_ids=(picked.token_id,),
            text=advance.text,
            logprobs=None if picked.logprobs is None else (picked.logprobs,),
            finish_reason=advance.finish_reason,
            stop_reason=advance.stop_reason,
            num_cached_tokens=sequence.num_cached_tokens,
        )

    def _remove(self, sequence: Sequence) -> None:
        del self._alive[sequence.request.request_id]
        if sequence.pages is None:
            self._waiting.remove(sequence)
        else:
            self._running.remove(sequence)
            self._close(sequence)

    def _close(self, sequence: Sequence) -> None:
        assert sequence.pages is not None
        self._kv.release(sequence.pages)
        sequence.pages = None
