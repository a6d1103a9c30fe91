"""`bench fit`: real steps of many shapes, and the profile of the engine that they give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from vivace.bench.plans import FitPlan
from vivace.bench.run import random_requests, run_requests
from vivace.bench.simulate.profile import Profile
from vivace.core.config import EngineConfig
from vivace.core.errors import VivaceError
from vivace.core.request import Delta, Request
from vivace.engine.build import policies, scheduling
from vivace.engine.core import EngineCore

Report = Callable[[int, int], None]

SHORT, STREAM_TOKENS = 16, 48  # tokens in and out of a stream that prompts come beside
STREAMS = (1, 2, 4, 8, 16, 32, 64)
TOGETHER = (2, 8)
ANSWER = 16
WARM_STEPS = 4
QUANTILES = 101


def fit_profile(
    core: EngineCore, config: EngineConfig, plan: FitPlan, report: Report | None = None
) -> Profile:
    """Run steps over a grid of tokens, sequences and contexts, and fit their times.

    The engine's own model of step time learns from the steps as it always does, but for those of
    a first round: there the system still finds memory for KV pages, which takes time of its own.

    Args:
        core: an idle engine.
        config: what it was built from.
    """
    rng = np.random.default_rng(config.seed)
    info, model = core.info, core.scheduler.step_time
    workloads = list(_workloads(core, plan, rng))
    rounds = [*workloads, model.forget, *(plan.num_iters * workloads)]
    for done, run in enumerate(rounds, 1):
        run()
        if report is not None:
            report(done, len(rounds))
    times = model.refine()
    return Profile(
        model=info.model_name,
        vocab_size=info.vocab_size,
        max_model_len=info.max_model_len,
        page_tokens=info.page_tokens,
        groups=core.kv_groups,
        sharing=config.enable_prefix_caching,
        limits=scheduling(config),
        policies=policies(config),
        times=times,
        ratios=tuple(np.quantile(model.ratios(), np.linspace(0, 1, QUANTILES)).tolist()),
    )


def spread(profile: Profile) -> dict[str, float]:
    """How far steps are from what the profile says of them, relatively."""
    errors = np.abs(np.asarray(profile.ratios) - 1)
    return {f"p{rank}_error": float(np.percentile(errors, rank)) for rank in (50, 95)}


def _workloads(
    core: EngineCore, plan: FitPlan, rng: np.random.Generator
) -> Iterator[Callable[[], None]]:
    """Prompts of every size alone, several long ones together, and prompts beside streams."""
    longest = max(SHORT, min(plan.context, core.info.max_model_len - STREAM_TOKENS))
    lengths = [longest >> halvings for halvings in range(longest.bit_length())]
    most = core.info.max_num_seqs
    for length in lengths:
        yield partial(_together, core, 1, length, rng)
    for count in (n for n in TOGETHER if n <= most):
        yield partial(_together, core, count, longest // 2, rng)
    for count in (n for n in STREAMS if n < most):
        for length in (longest // 16, longest // 2):
            yield partial(_beside, core, count, length, rng)


def _together(core: EngineCore, count: int, length: int, rng: np.random.Generator) -> None:
    run_requests(core, random_requests(core, count, length, ANSWER, rng))


def _beside(core: EngineCore, count: int, length: int, rng: np.random.Generator) -> None:
    """Streams under way, and a prompt that arrives."""
    _add(core, random_requests(core, count, SHORT, STREAM_TOKENS, rng))
    for _ in range(WARM_STEPS):
        _check(core.step())
    _add(core, random_requests(core, 1, length, ANSWER, rng))
    while core.has_work:
        _check(core.step())


def _add(core: EngineCore, requests: Sequence[Request]) -> None:
    for request in requests:
        core.add(request)


def _check(deltas: Sequence[Delta]) -> None:
    for delta in deltas:
        if delta.error is not None:
            raise VivaceError(delta.error)
