"""Who computes how much in the next step.

There are no phases: a sequence runs "tokens known minus tokens computed", cut to one token budget
per step (continuous batching: Yu et al., Orca, OSDI 2022; chunked prefill beside decodes: Agrawal
et al., Sarathi-Serve, OSDI 2024). Whose turn it is says order.py, who gives way preemption.py. Who
loses its seat keeps its pages until they are needed, and is computed again later where they were
(recompute preemption: Kwon et al., PagedAttention, SOSP 2023).

Why it always progresses: the first running sequence may take the pages of all others, and `add`
refuses what does not fit alone; with none running every page is available to the first waiting one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from math import ceil, inf

from vivace.cache.blocks import KVManager
from vivace.cache.prefix import Scope
from vivace.core.errors import RequestError
from vivace.core.request import Delta, Request
from vivace.core.step import Advance, Picked, Pooled, ScheduledSequence, Scored, Step
from vivace.scheduler.admission import Admission, check_fits
from vivace.scheduler.aging import Aging
from vivace.scheduler.budget import Demand, step_budget
from vivace.scheduler.config import PolicyConfig, SchedulerConfig, SchedulerCounters
from vivace.scheduler.fair_share import FairShare
from vivace.scheduler.order import Order
from vivace.scheduler.preemption import Preemption, first_to_give_pages
from vivace.scheduler.prefix_first import PrefixFirst
from vivace.scheduler.results import Results
from vivace.scheduler.seating import Seating
from vivace.scheduler.seats import Seats
from vivace.scheduler.sequence import Sequence
from vivace.scheduler.step_time import StepTimeModel
from vivace.scheduler.turn import Turn

__all__ = ["PolicyConfig", "Scheduler", "SchedulerConfig"]


class Scheduler:
    """Single-threaded. After `schedule` comes `update` with the same step, or nothing where the
    step failed: the next one then computes the same again. Requests may be added and aborted at
    any time between.

    Args:
        config: the limits of a step.
        kv: the pages; the scheduler is their only user.
        policies: whose turn it is, and how many may wait for it; None is the defaults.
        clock: seconds; that of the requests' deadlines.
        step_time: what steps take; None starts a new model.

    Attributes:
        counters: of what was done since the start.
        step_time: what steps take; whoever runs them tells it.
    """

    def __init__(
        self,
        config: SchedulerConfig,
        kv: KVManager,
        policies: PolicyConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
        step_time: StepTimeModel | None = None,
    ) -> None:
        policies = policies or PolicyConfig()
        max_wait = policies.max_wait_seconds
        aging = Aging(inf if max_wait is None else max_wait)
        self.counters = SchedulerCounters()
        self.step_time = step_time or StepTimeModel()
        self._kv = kv
        self._clock = clock
        self._budget = step_budget(config, self.step_time)
        self._seats = Seats(kv, self.counters)
        self._shares = FairShare(policies.tenant_weights)
        self._order = Order(aging, self._shares, PrefixFirst(kv))
        self._seating = Seating(self._seats, Preemption(aging, self._shares), aging)
        self._admission = Admission(
            policies.max_queued_requests, policies.max_queued_tokens, self._seconds_to_compute
        )
        self._max_running = config.max_running
        self._max_tokens = config.max_num_batched_tokens
        self._max_chunk = config.max_chunk
        self._max_scoring_rows = config.max_scoring_rows
        self._alive: dict[str, Sequence] = {}  # in order of arrival
        self._num_added = 0

    @property
    def has_work(self) -> bool:
        return bool(self._alive)

    @property
    def num_running(self) -> int:
        return self._seats.taken

    @property
    def num_waiting(self) -> int:
        """Paused ones too."""
        return len(self._alive) - self.num_running

    @property
    def running(self) -> list[Request]:
        return [one.request for one in self._alive.values() if one.seated]

    @property
    def waiting(self) -> list[Request]:
        """Paused ones too."""
        return [one.request for one in self._alive.values() if not one.seated]

    def add(self, request: Request) -> None:
        """Queue a request. `params.max_tokens` must be a number.

        Raises:
            RequestError: it can never fit in the KV pages, or its id is in use.
            OverloadedError: the queue is full.
        """
        self.check(request)
        sequence = Sequence(request, self._num_added, self._clock())
        self._alive[request.request_id] = sequence
        self._num_added += 1
        self._shares.join(request.tenant)
        if sequence.reuses:
            self._kv.want(request.prompt_token_ids, Scope.of(request))

    def check(self, request: Request, coming: Collection[int] = ()) -> None:
        """Whether `add` would take a request now.

        Args:
            coming: tokens of each request that has a place in the queue and is not there yet.

        Raises:
            As `add`.
        """
        if request.request_id in self._alive:
            raise RequestError(f"request_id {request.request_id!r} is in use.", "request_id")
        check_fits(request, self._kv)
        if self._admission.limited:
            queued = [one.left for one in self._alive.values() if not one.seated]
            self._admission.check([*queued, *coming], len(request.prompt_token_ids))

    def abort(self, request_id: str) -> bool:
        """Forget a request and give back its pages now. False where the id is unknown."""
        sequence = self._alive.get(request_id)
        if sequence is None:
            return False
        self._remove(sequence)
        return True

    def drop_late(self) -> list[Delta]:
        """End requests whose deadline passed and that asked for it; their last deltas. What they
        have produced was delivered."""
        now = self._clock()
        late = [one for one in self._alive.values() if one.is_late(now)]
        for sequence in late:
            self._remove(sequence)
        return [
            Delta(
                one.request.request_id,
                finish_reason="deadline",
                num_cached_tokens=one.num_cached_tokens,
                num_preemptions=one.num_preemptions,
            )
            for one in late
        ]

    def schedule(self) -> Step:
        """Choose what to compute now; empty only when there is no work.

        Everybody's turn comes in order: who runs gets its share, each at least one token, and who
        waits may take a seat. The step refers to live token lists and block tables, which stay as
        they are until `update`.
        """
        turn = self._begin(self._clock())
        for sequence in turn.order:
            if sequence.seated or self._seating.take(sequence, turn):
                self._give_share(sequence, turn)
        return Step(tuple(turn.chosen))

    def update(
        self,
        step: Step,
        picked: Iterable[Picked],
        advances: Iterable[Advance],
        scored: Iterable[Scored] = (),
        pooled: Iterable[Pooled] = (),
    ) -> list[Delta]:
        """Take in a step's results: append tokens, share full pages, finish and free.

        Args:
            picked: one for each sampling sequence that is still alive.
            advances: likewise.
            scored: one for each generating sequence that reads some and is still alive.
            pooled: one for each that ends with its vector.
        """
        results = Results.of(picked, advances, scored, pooled)
        deltas = []
        for scheduled in step.sequences:
            request_id = scheduled.request.request_id
            sequence = self._alive.get(request_id)
            # aborted since; its id may even stand for another request by now
            if sequence is None or sequence.tokens is not scheduled.token_ids:
                continue
            assert sequence.pages is not None
            end = scheduled.start + scheduled.count
            self._kv.commit(sequence.pages, end)
            self._shares.charge(sequence, scheduled.start, end, int(scheduled.samples))
            if scheduled.reads:
                sequence.read_to = scheduled.reads.stop
            delta = results.take_in(sequence, scheduled, self.counters)
            if delta is not None:
                deltas.append(delta)
                if delta.finish_reason is not None:
                    self._remove(sequence)
        return deltas

    def check_integrity(self) -> None:
        """Raises IntegrityError if pages or sequences are lost, or counted wrong."""
        self._seats.check_integrity(list(self._alive.values()))

    def _seconds_to_compute(self, tokens: int) -> float:
        """How long so many tokens of the queue take, in steps as full as the budget makes them."""
        demand = Demand.of(self._alive.values(), self._clock())
        prefill = self._prefill(demand)
        step = self.step_time.beside(demand.decoding, prefill)
        return ceil(tokens / prefill) * self.step_time.predict(step)

    def _prefill(self, demand: Demand) -> int:
        """What prompts may have of the next step, where they hold up who decodes."""
        return self._budget.prefill(demand) if demand.decoding else self._max_tokens

    def _begin(self, now: float) -> Turn:
        alive = self._alive.values()
        demand = Demand.of(alive, now)
        return Turn(
            now,
            self._order.arrange(alive, now),
            seats=self._budget.seats(self._max_running) if self.num_waiting else self.num_running,
            left=self._max_tokens,
            prefill=self._prefill(demand),
            scoring_rows=self._max_scoring_rows,
            streams=demand.best_priority,
        )

    def _give_share(self, sequence: Sequence, turn: Turn) -> None:
        """The sequence's tokens of this step; none where it had to give up its own pages."""
        others = self.num_running - len(turn.chosen) - 1
        self._seats.catch_up(sequence)
        while True:
            allowance = min(turn.left - others, max(1, turn.room(sequence)))
            share = self._plan(sequence, allowance, turn.scoring_rows)
            if share is not None:
                turn.give(sequence, share)
                return
            giver = first_to_give_pages(turn.order)
            self._seats.give_up_pages(giver, turn.now)
            if giver is sequence:
                return

    def _plan(
        self, sequence: Sequence, allowance: int, scoring_rows: int
    ) -> ScheduledSequence | None:
        """As many tokens as allowed and as there are pages for; None for none. Where prompt tokens
        are to be scored, also no more than there are rows of logits for."""
        pages = sequence.pages
        assert pages is not None
        start, known = pages.computed, len(sequence.tokens)
        count = min(known - start, allowance, self._max_chunk)
        unread, pools = sequence.unread, sequence.request.pooling is not None
        if unread and not pools:
            count = min(count, max(1, scoring_rows))
        end = sequence.request.sight.step_end(start, start + count)
        end = self._kv.extend(pages, end)
        if end <= start:
            return None
        return ScheduledSequence(
            sequence.request,
            sequence.tokens,
            start,
            end - start,
            pages.tables,
            samples=end == known and not pools,
            reads=range(max(start, unread.start), min(end, unread.stop)),
        )

    def _remove(self, sequence: Sequence) -> None:
        del self._alive[sequence.request.request_id]
        self._shares.leave(sequence.request.tenant)
        self._seats.leave(sequence)
