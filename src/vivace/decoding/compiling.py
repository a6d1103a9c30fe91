"""Constraints to matchers, in threads of their own: a request waits for its grammar while the
others go on. The work itself is llguidance's (https://github.com/guidance-ai/llguidance)."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vivace.core.errors import OverloadedError, RequestError
from vivace.core.structured import PARAM, StructuredOutputsParams
from vivace.decoding.grammars import GrammarError, grammar_of
from vivace.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

COMPILE_SECONDS = 10.0
TURN_SECONDS = 60.0  # until others' constraints are compiled
MAX_CACHED = 128
THREADS = 2
MAX_SHOWN = 400  # characters of what the library says


@dataclass
class _Job:
    """A constraint being compiled, or compiled; matchers are copied from its result. Times are on
    the monotonic clock."""

    asked: float
    started: float | None = None
    result: Future[LLMatcher] = field(default_factory=Future)


class Compiler:
    """Compiles each constraint once, and remembers the `MAX_CACHED` used last.

    Args:
        tokenizer: what answers are written in.
        vocab_size: columns of the logits.
        eos_token_ids: at least one; what may stand behind a complete answer.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_token_ids: Sequence[int]) -> None:
        self._given = (tokenizer, vocab_size, list(eos_token_ids))
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._jobs: OrderedDict[StructuredOutputsParams, _Job] = OrderedDict()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="grammar")

    def begin(self, params: StructuredOutputsParams) -> None:
        """Start to compile, unless that was done."""
        if params in self._jobs:
            self._jobs.move_to_end(params)
            return
        job = _Job(time.monotonic())
        self._jobs[params] = job
        self._pool.submit(self._run, job, params)
        while len(self._jobs) > MAX_CACHED and next(iter(self._jobs.values())).result.done():
            self._jobs.popitem(last=False)

    def matcher(self, params: StructuredOutputsParams) -> LLMatcher | None:
        """A new matcher at the beginning of an answer; None while it is compiled.

        Raises:
            RequestError: the constraint is wrong, too large, or took longer than COMPILE_SECONDS.
            OverloadedError: its turn to be compiled has not come within TURN_SECONDS.
        """
        self.begin(params)  # others may have pushed it out
        job = self._jobs[params]
        if job.result.done():
            return job.result.result().deep_copy()
        now = time.monotonic()
        if job.started is None and now - job.asked > TURN_SECONDS:
            self.forget(params)
            raise OverloadedError(
                "Other constraints take long to compile; try again.", COMPILE_SECONDS, "grammars"
            )
        if job.started is not None and now - job.started > COMPILE_SECONDS:
            raise _refusal(f"it takes longer than {COMPILE_SECONDS:g} seconds to compile")
        return None

    def wait(self, params: Sequence[StructuredOutputsParams], seconds: float) -> None:
        """Until one of these is compiled, but no longer than that."""
        jobs = [self._jobs[one].result for one in params if one in self._jobs]
        wait(jobs, seconds, FIRST_COMPLETED)

    def forget(self, params: StructuredOutputsParams) -> None:
        """Compile it anew the next time: its matchers share what they learn, and its limits."""
        self._jobs.pop(params, None)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, job: _Job, params: StructuredOutputsParams) -> None:
        job.started = time.monotonic()
        try:
            job.result.set_result(self._compile(params))
        except Exception as error:  # a constraint comes from a stranger: it may fail in any way
            known = error if isinstance(error, GrammarError) else None
            job.result.set_exception(_refusal(str(known or f"it cannot be compiled: {error!r}")))

    def _compile(self, params: StructuredOutputsParams) -> LLMatcher:
        from llguidance import LLMatcher

        matcher = LLMatcher(
            self._own_tokenizer(), grammar_of(params), limits=_limits(), log_level=0
        )
        if matcher.is_error():
            raise GrammarError(matcher.get_error())
        return matcher

    def _own_tokenizer(self) -> LLTokenizer:
        """Made when first needed: it takes a fraction of a second."""
        from llguidance import LLTokenizer

        with self._lock:
            if self._tokenizer is None:
                tokenizer, vocab_size, eos = self._given
                self._tokenizer = LLTokenizer(tokenizer.to_json(), vocab_size, eos)
            return self._tokenizer


def _limits() -> LLParserLimits:
    """About 20 ms of lexer to begin with, 14 ms of lexer and 2.5 ms of parser in a step, at most
    a few hundred MB of lexer states: what explodes ends there."""
    from llguidance import LLParserLimits

    return LLParserLimits(
        initial_lexer_fuel=1_000_000,
        step_lexer_fuel=200_000,
        step_max_items=50_000,
        max_items_in_row=2_000,
        max_lexer_states=100_000,
        max_grammar_size=500_000,
        verbose_errors=False,
    )


def _refusal(why: str) -> RequestError:
    said = " ".join(why.split()).rstrip(".")
    shown = said if len(said) <= MAX_SHOWN else said[:MAX_SHOWN] + "..."
    return RequestError(f"{PARAM}: {shown}.", PARAM)
