"""The engine: requests in, deltas out, one step at a time. The loop to protect is `_advance`."""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vivace.cache.blocks import KVGroup, KVManager, SequencePages
from vivace.core.errors import CapacityError, OverloadedError, RequestError, VivaceError
from vivace.core.request import Delta, Request
from vivace.core.stats import STEP_SIZES, EngineInfo, EngineStats
from vivace.core.step import Pooled, ScheduledSequence, Step
from vivace.decoding.constraints import ConstraintError
from vivace.decoding.sampler import InvalidLogitsError, NothingAllowedError, Sampler
from vivace.decoding.stops import OutputText
from vivace.engine.pooling import Pooler
from vivace.engine.requests import check_token_ids
from vivace.engine.runner import LOGIT_ROWS, Runner
from vivace.scheduler.scheduler import Scheduler
from vivace.scheduler.step_time import StepShape

IDLE_PAGES = 16  # written down before the engine looks for work again
CLOSE_SECONDS = 5.0
GRAMMAR_WAIT_SECONDS = 0.005  # for a grammar, where there is nothing else to do


class EngineCore:
    """Single-threaded: whoever owns it calls it from one thread."""

    def __init__(
        self,
        info: EngineInfo,
        kv: KVManager,
        scheduler: Scheduler,
        runner: Runner,
        sampler: Sampler,
        text: OutputText,
    ) -> None:
        self.info = info
        self._kv = kv
        self.scheduler = scheduler
        self._runner = runner
        self._sampler = sampler
        self._constraints = sampler.constraints
        self._text = text
        self._pooler = Pooler()
        self._pinning: dict[str, Request] = {}
        self._steps = 0
        self._step_seconds = 0.0
        self._step_tokens = 0
        self._step_sizes = [0] * (len(STEP_SIZES) + 1)

    @property
    def kv_groups(self) -> tuple[KVGroup, ...]:
        return self._kv.groups

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work or self._constraints.num_waiting > 0

    def add(self, request: Request) -> None:
        """Queue a request, or have its grammar compiled first.

        Raises:
            RequestError: it, or its pin, can never fit; the engine is unharmed.
            OverloadedError: the queue is full.
        """
        if request.pin_id is not None:
            self._kv.pins.check(request.pin_id, request.prompt_token_ids, request.cache_salt)
        if self._constraints.add(request):
            self._queue(request)

    def _queue(self, request: Request) -> None:
        self.scheduler.add(request)
        self._text.add(request)
        if request.pin_id is not None:
            self._pinning[request.request_id] = request

    def abort(self, request_id: str) -> None:
        """Forget a request and free its pages; unknown ids are ignored."""
        self.scheduler.abort(request_id)
        self._text.remove(request_id)
        self._constraints.remove(request_id)
        self._pooler.forget(request_id)
        self._pinning.pop(request_id, None)

    def unpin(self, pin_id: str) -> None:
        """Let a pinned prefix be evicted again; unknown ids are ignored."""
        self._kv.pins.remove(pin_id)

    def reset_prefix_cache(self) -> None:
        """Forget every computed prefix but those that are in use or pinned."""
        self._kv.forget_prefixes()

    @property
    def unwritten(self) -> bool:
        """Whether `write_down` has something to do."""
        return self._kv.unwritten

    def write_down(self) -> None:
        """Something to do while idle: copy computed pages to disk, a few at a time."""
        self._kv.write_down(IDLE_PAGES)

    def close(self) -> None:
        """Keep on disk what the next start may need; nothing may be called afterwards."""
        self._constraints.close()
        self._kv.close(CLOSE_SECONDS)

    def step(self) -> list[Delta]:
        """Compute one step of whoever is next; returns what it adds to each request.

        A request that fails gets its error as its last delta; the others go on.
        """
        ended = self._take_ready()
        started = time.perf_counter()
        ended += self._drop_late()
        step = self.scheduler.schedule()
        if not step.sequences:
            return ended
        try:
            deltas = self._advance(step)
        except (InvalidLogitsError, NothingAllowedError, ConstraintError) as error:
            deltas = self._fail(error.request_ids, error)
        except Exception as error:  # whatever a step trips over, the other requests go on
            if not isinstance(error, VivaceError):
                logging.getLogger("vivace").exception("A step failed.")
            deltas = self._fail([one.request.request_id for one in step.sequences], error)
        self._count(step, time.perf_counter() - started)
        return ended + deltas

    def _take_ready(self) -> list[Delta]:
        """Queue the requests whose grammar is compiled; the ends of those that cannot be."""
        if self._constraints.num_waiting and not self.scheduler.has_work:
            self._constraints.wait(GRAMMAR_WAIT_SECONDS)
        ready = self._constraints.ready()
        refusals = [(request, error or self._refusal(request)) for request, error in ready]
        return [
            Delta.failed(request.request_id, error)
            for request, error in refusals
            if error is not None
        ]

    def _refusal(self, request: Request) -> VivaceError | None:
        """Queue a request whose grammar is there; why that cannot be done."""
        try:
            self._queue(request)
        except (OverloadedError, RequestError) as refusal:
            self._constraints.remove(request.request_id)
            return refusal
        return None

    def _count(self, step: Step, seconds: float) -> None:
        self._steps += 1
        self._step_seconds += seconds
        self._step_tokens += step.num_tokens
        self._step_sizes[bisect_left(STEP_SIZES, step.num_tokens)] += 1
        self.scheduler.step_time.observe(StepShape.of(step), seconds)

    def _advance(self, step: Step) -> list[Delta]:
        logits = self._runner.run(step)
        picked = self._sampler.pick(logits, step)
        scored = self._sampler.score(logits, step)
        pooled = self._pool(step.pooling)
        advances = self._text.advance(step, picked)
        deltas = self.scheduler.update(step, picked, advances, scored, pooled)
        return [self._settled(d) if d.finish_reason is not None else d for d in deltas]

    def _pool(self, sequences: Sequence[ScheduledSequence]) -> list[Pooled]:
        if not sequences:
            return []
        hidden = self._runner.run_hidden(sequences)
        self._pooler.check(hidden, sequences)
        return self._pooler.take(hidden, sequences)

    def _settled(self, delta: Delta) -> Delta:
        """What a request leaves behind when it ends: at most a pin."""
        self._text.remove(delta.request_id)
        self._constraints.remove(delta.request_id)
        request = self._pinning.pop(delta.request_id, None)
        if request is None or request.pin_id is None:
            return delta
        try:
            self._kv.pins.add(request.pin_id, request.prompt_token_ids, request.cache_salt)
        except RequestError as error:  # others were pinned meanwhile
            return Delta.failed(delta.request_id, error)
        return delta

    def _drop_late(self) -> list[Delta]:
        """Ends of requests that are late, with the text that waited for more."""
        late = self.scheduler.drop_late()
        for delta in late:
            self._pinning.pop(delta.request_id, None)
            self._constraints.remove(delta.request_id)
            self._pooler.forget(delta.request_id)
        return [replace(delta, text=self._text.finish(delta.request_id)) for delta in late]

    def _fail(self, request_ids: Sequence[str], error: Exception) -> list[Delta]:
        """End these requests; what the step computed of others is computed again."""
        for request_id in request_ids:
            self.abort(request_id)
        return [Delta.failed(request_id, error) for request_id in request_ids]

    def logits(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """float32 [len, vocab] of a sequence of its own, computed apart from all requests.

        Raises:
            As `logit_batches`.
        """
        return np.concatenate([*self.logit_batches(token_ids)])

    def logit_batches(self, token_ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        """The same, at most `LOGIT_ROWS` rows at a time; its pages are held until it ends.

        Raises:
            RequestError: there are no tokens, unknown ones, or more than the context holds.
            CapacityError: running requests hold the pages it needs.
        """
        check_token_ids(self.info, token_ids)
        tokens = list(token_ids)
        pages = self._kv.allocate(tokens, salt=None)
        if pages is None:
            raise CapacityError("Running requests hold the KV pages that this needs; wait.")
        try:
            yield from self._logit_batches(tokens, pages)
        finally:
            self._kv.release(pages)

    def _logit_batches(
        self, tokens: list[int], pages: SequencePages
    ) -> Iterator[NDArray[np.float32]]:
        request = Request("logits", tuple(tokens))
        while pages.computed < len(tokens):
            start = pages.computed
            end = self._kv.extend(pages, min(start + LOGIT_ROWS, len(tokens)))
            chunk = ScheduledSequence(
                request, tokens, start, end - start, pages.tables, samples=False
            )
            yield self._runner.run_all_rows(chunk).copy()
            self._kv.commit(pages, end)

    def check_integrity(self) -> None:
        """Raises IntegrityError if a page or a request was lost, or counted wrong."""
        self.scheduler.check_integrity()

    def stats(self) -> EngineStats:
        counters = self.scheduler.counters
        return EngineStats(
            running=self.scheduler.num_running,
            waiting=self.scheduler.num_waiting + self._constraints.num_waiting,
            pages_used=self._kv.pages_used,
            pages_total=self._kv.pages_total,
            prefix_query_tokens=counters.prefix_query_tokens,
            prefix_hit_tokens=counters.prefix_hit_tokens,
            preemptions=counters.preemptions,
            prompt_tokens=counters.prompt_tokens,
            generation_tokens=counters.generation_tokens,
            steps=self._steps,
            step_seconds=self._step_seconds,
            native_seconds=self._runner.seconds,
            step_tokens=self._step_tokens,
            step_sizes=tuple(self._step_sizes),
            pins=self._kv.pins.ids,
            pages_pinned=self._kv.pins.num_pages,
            tiers=self._kv.tier_stats(),
        )
