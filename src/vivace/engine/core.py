"""The engine: requests in, deltas out, one step at a time. The loop to protect is
`step`: schedule, `_compute`, `_take_in`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vivace.cache.blocks import KVGroup, KVManager
from vivace.cache.prefix import Scope
from vivace.core.errors import CapacityError, OverloadedError, RequestError, VivaceError
from vivace.core.request import Delta, Request
from vivace.core.stats import EngineInfo, EngineStats
from vivace.core.step import Advance, Picked, ScheduledSequence, Scored, Step
from vivace.decoding.constraints import ConstraintError
from vivace.decoding.sampler import InvalidLogitsError, NothingAllowedError, Sampler
from vivace.decoding.stops import OutputText
from vivace.engine.pooling import Pooler
from vivace.engine.runner import Runner
from vivace.engine.sequence_logits import SequenceLogits
from vivace.engine.stats import StepCounts, engine_stats
from vivace.scheduler.scheduler import Scheduler
from vivace.scheduler.step_time import StepShape

_log = logging.getLogger("vivace")

SHRINK_SHARE = 0.25  # of the KV pages, each time that memory runs out
IDLE_PAGES = 16  # written down before the engine looks for work again
CLOSE_SECONDS = 5.0
GRAMMAR_WAIT_SECONDS = 0.005  # for a grammar, where there is nothing else to do


class _Outputs(NamedTuple):
    """What was computed of a step, before anybody takes it in."""

    picked: list[Picked]
    scored: list[Scored]
    hidden: NDArray[np.float32] | None = None


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
        self.adapters = runner.adapters
        self._pooler = Pooler()
        self._pinning: dict[str, Request] = {}
        self._sequence_logits = SequenceLogits(info, kv, runner)
        self._steps = StepCounts()

    @property
    def kv_groups(self) -> tuple[KVGroup, ...]:
        return self._kv.groups

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work or self._constraints.num_waiting > 0

    def add(self, request: Request) -> None:
        """Queue a request, or have its grammar compiled first; it has its place in the queue
        meanwhile.

        Raises:
            RequestError: it, or its pin, can never fit, or its adapter is unknown; the engine is
                unharmed.
            OverloadedError: the queue is full.
        """
        request = self.adapters.bind(request)
        if request.pin_id is not None:
            self._kv.pins.check(request.pin_id, request.prompt_token_ids, Scope.of(request))
        self.scheduler.check(request, self._constraints.waiting_tokens)
        if self._constraints.add(request):
            self._queue(request)
        self.adapters.enter(request)

    def _queue(self, request: Request) -> None:
        self.scheduler.add(request)
        self._text.add(request)
        if request.pin_id is not None:
            self._pinning[request.request_id] = request

    def abort(self, request_id: str) -> None:
        """Forget a request and free its pages; unknown ids are ignored."""
        self.scheduler.abort(request_id)
        self._runner.forget(request_id)
        self._text.remove(request_id)
        self._constraints.remove(request_id)
        self._pooler.forget(request_id)
        self._pinning.pop(request_id, None)
        self.adapters.leave(request_id)

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

        A request that fails gets its error as its last delta; the others go on with the tokens
        that they would have had. Where memory runs out, the cache gives up some of its own first.
        """
        ended = self._take_ready()
        started = time.perf_counter()
        ended += self._drop_late()
        step = self.scheduler.schedule()
        if not step.sequences:
            return ended
        outputs = self._attempt(step)
        deltas = self._isolate(step) if outputs is None else self._take_in(step, outputs)
        self._count(step, time.perf_counter() - started)
        return ended + deltas

    def _take_ready(self) -> list[Delta]:
        """Queue the requests whose grammar is compiled; the ends of those that cannot be."""
        if self._constraints.num_waiting and not self.scheduler.has_work:
            self._constraints.wait(GRAMMAR_WAIT_SECONDS)
        ready = self._constraints.ready()
        found = [(one.request_id, error or self._refusal(one)) for one, error in ready]
        failed = [Delta.failed(name, error) for name, error in found if error is not None]
        for delta in failed:
            self._constraints.remove(delta.request_id)
            self.adapters.leave(delta.request_id)
        return failed

    def _refusal(self, request: Request) -> VivaceError | None:
        """Queue a request whose grammar is there; why that cannot be done."""
        try:
            self._queue(request)
        except (OverloadedError, RequestError) as refusal:
            return refusal
        return None

    def _attempt(self, step: Step) -> _Outputs | None:
        """None where it fails: `_isolate` finds out whose fault that is."""
        try:
            return self._compute(step)
        except MemoryError:
            self._shrink()
        except VivaceError:
            pass
        except Exception:
            _log.warning("A step failed and is run again in parts.", exc_info=True)
        return None

    def _isolate(self, step: Step) -> list[Delta]:
        """A step that failed, run again, and where it fails again in halves, down to the requests
        at fault. Computing changes nothing but pages, and those to the same values."""
        try:
            outputs = self._compute(step)
        except (InvalidLogitsError, NothingAllowedError, ConstraintError) as error:
            return self._fail(error.request_ids, error)
        except Exception as error:  # whatever it trips over
            if len(step.sequences) == 1:
                return self._fail([step.sequences[0].request.request_id], _told(error))
        else:
            return self._take_in(step, outputs)
        half = len(step.sequences) // 2
        parts = Step(step.sequences[:half]), Step(step.sequences[half:])
        return [delta for part in parts for delta in self._isolate(part)]

    def _shrink(self) -> None:
        pages = self._kv.shrink(SHRINK_SHARE)
        self._runner.release_pages(pages)
        _log.warning(
            "Memory has run out: the cache gave up %d of its pages; give vivace less --kv-memory.",
            sum(map(len, pages)),
        )

    def _count(self, step: Step, seconds: float) -> None:
        self._steps.add(step, seconds)
        self.scheduler.step_time.observe(StepShape.of(step), seconds)

    def _compute(self, step: Step) -> _Outputs:
        logits = self._runner.run(step)
        picked = self._sampler.pick(logits, step)
        scored = self._sampler.score(logits, step)
        if not step.pooling:
            return _Outputs(picked, scored)
        hidden = self._runner.run_hidden(step.pooling)
        self._pooler.check(hidden, step.pooling)
        return _Outputs(picked, scored, hidden)

    def _take_in(self, step: Step, outputs: _Outputs) -> list[Delta]:
        """What fails here on a request's own account ends that request; for anything else the
        books could not be trusted any more."""
        pooled = [] if outputs.hidden is None else self._pooler.take(outputs.hidden, step.pooling)
        read = [self._read(*pair) for pair in zip(step.sampling, outputs.picked, strict=True)]
        advances = [one for one in read if isinstance(one, Advance)]
        self._runner.cut_prompts(step)
        deltas = self.scheduler.update(step, outputs.picked, advances, outputs.scored, pooled)
        ends = [one for one in read if isinstance(one, Delta)]
        return ends + [self._settled(d) if d.finish_reason is not None else d for d in deltas]

    def _read(self, sequence: ScheduledSequence, picked: Picked) -> Advance | Delta:
        """What a picked token says, or the end of a request whose text cannot be made."""
        try:
            return self._text.advance(sequence, picked)
        except Exception as error:
            return self._fail([picked.request_id], _told(error))[0]

    def _settled(self, delta: Delta) -> Delta:
        """What a request leaves behind when it ends: at most a pin."""
        self._text.remove(delta.request_id)
        self.adapters.leave(delta.request_id)
        self._constraints.remove(delta.request_id)
        request = self._pinning.pop(delta.request_id, None)
        if request is None or request.pin_id is None:
            return delta
        try:
            self._kv.pins.add(request.pin_id, request.prompt_token_ids, Scope.of(request))
        except RequestError as error:  # others were pinned meanwhile
            return Delta.failed(delta.request_id, error)
        return delta

    def _drop_late(self) -> list[Delta]:
        """Ends of requests that are late, with the text that waited for more."""
        early = self._constraints.drop_late(time.monotonic())
        for request_id in early:
            self.adapters.leave(request_id)
        late = self.scheduler.drop_late()
        for delta in late:
            self._runner.forget(delta.request_id)
            self._pinning.pop(delta.request_id, None)
            self._constraints.remove(delta.request_id)
            self._pooler.forget(delta.request_id)
            self.adapters.leave(delta.request_id)
        ended = [replace(delta, text=self._text.finish(delta.request_id)) for delta in late]
        return [Delta(one, finish_reason="deadline") for one in early] + ended

    def _fail(self, request_ids: Sequence[str], error: Exception) -> list[Delta]:
        """End these requests; what the step computed of others is computed again."""
        for request_id in request_ids:
            self.abort(request_id)
        return [Delta.failed(request_id, error) for request_id in request_ids]

    def logits(self, token_ids: Sequence[int], adapter: str | None = None) -> NDArray[np.float32]:
        """float32 [len, vocab] of a sequence of its own, computed apart from all requests.

        Raises:
            As `logit_batches`.
        """
        return np.concatenate([*self.logit_batches(token_ids, adapter)])

    def logit_batches(
        self, token_ids: Sequence[int], adapter: str | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """The same, at most `LOGIT_ROWS` rows at a time; its pages are held until it ends.

        Raises:
            As `SequenceLogits.batches`.
        """
        return self._sequence_logits.batches(token_ids, adapter)

    def check_integrity(self) -> None:
        """Raises IntegrityError if a page or a request was lost, or counted wrong."""
        self.scheduler.check_integrity()

    def stats(self) -> EngineStats:
        parts = (self._kv, self.scheduler, self._runner, self._constraints)
        return engine_stats(*parts, self._steps)


def _told(error: Exception) -> VivaceError:
    """What a request's owner is told of any error; the log has the rest."""
    if isinstance(error, VivaceError):
        return error
    _log.error("A request failed.", exc_info=error)
    if isinstance(error, MemoryError):
        return CapacityError("There is no memory left for this request; try again later.")
    return VivaceError(f"The engine failed on this request alone ({error!r}); its log says more.")
