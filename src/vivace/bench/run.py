"""Driving an engine through a set of requests, with a stopwatch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

import numpy as np

from vivace.core.errors import VivaceError
from vivace.core.request import Delta, Request
from vivace.core.sampling import SamplingParams
from vivace.engine.core import EngineCore
from vivace.engine.requests import fan_out

Report = Callable[[int, int], None]


class StepRecord(NamedTuple):
    """Attributes:
    end: when the step ended, in seconds since the run began.
    sequences: how many were running.
    tokens: new tokens drawn.
    """

    end: float
    sequences: int
    tokens: int


@dataclass
class Run:
    """What one run of requests took, in seconds since it began.

    A step is a decode step when every sequence in it draws a token and none its first one; all
    others work on prompts. So a step that mixes both counts as prefill.

    Attributes:
        first_tokens: per request, when its first token came.
        prefill_seconds: steps that worked on prompts.
        decode_seconds: decode steps.
        decode_tokens: tokens drawn in decode steps.
        steps: every step, in order.
    """

    num_requests: int
    prompt_tokens: int
    output_tokens: int = 0
    elapsed: float = 0.0
    first_tokens: dict[str, float] = field(default_factory=dict)
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    decode_tokens: int = 0
    steps: list[StepRecord] = field(default_factory=list)


def random_requests(
    core: EngineCore, count: int, input_len: int, output_len: int, rng: np.random.Generator
) -> list[Request]:
    """Prompts of random tokens, different in each call so that no prefix cache helps."""
    params = SamplingParams(temperature=0.0, max_tokens=output_len, ignore_eos=True)
    prompts = rng.integers(0, core.info.vocab_size, (count, input_len))
    tag = rng.bytes(4).hex()
    return [
        request
        for i, prompt in enumerate(prompts)
        for request in fan_out(core.info, f"bench-{tag}-{i}", prompt.tolist(), params)
    ]


def run_requests(
    core: EngineCore, requests: Sequence[Request], report: Report | None = None
) -> Run:
    """Run requests to their ends, all submitted at once.

    Raises:
        VivaceError: the engine could not finish one of them.
    """
    run = Run(len(requests), sum(len(request.prompt_token_ids) for request in requests))
    done, started, before = 0, perf_counter(), 0.0
    for request in requests:
        core.add(request)
    while core.has_work:
        deltas = core.step()
        run.elapsed = perf_counter() - started
        finished = sum(delta.finish_reason is not None for delta in deltas)
        _count(run, deltas, core.scheduler.num_running + finished, run.elapsed - before)
        before, done = run.elapsed, done + finished
        if report is not None and finished:
            report(done, len(requests))
    return run


def _count(run: Run, deltas: Sequence[Delta], sequences: int, seconds: float) -> None:
    is_decode = len(deltas) == sequences
    tokens = sum(len(delta.token_ids) for delta in deltas)
    for delta in deltas:
        if delta.error is not None:
            raise VivaceError(delta.error)
        if delta.request_id not in run.first_tokens:
            run.first_tokens[delta.request_id] = run.elapsed
            is_decode = False
    run.output_tokens += tokens
    run.steps.append(StepRecord(run.elapsed, sequences, tokens))
    if is_decode:
        run.decode_seconds += seconds
        run.decode_tokens += tokens
    else:
        run.prefill_seconds += seconds
