"""When requests arrive: a Poisson process, its bursty and even relatives, and ramps.

The definitions are those of `vllm bench serve`, so that a figure means the same in both.
"""

from __future__ import annotations

from math import inf

import numpy as np
from numpy.typing import NDArray

from vivace.bench.plans import ArrivalPlan


def request_rates(plan: ArrivalPlan, count: int) -> NDArray[np.float64]:
    """Requests per second that hold when each of `count` requests is due; float64 [count]."""
    if plan.ramp_up_strategy is None:
        return np.full(count, plan.request_rate)
    start, end = plan.ramp_up_start_rps, plan.ramp_up_end_rps
    assert start is not None
    assert end is not None
    progress = np.arange(count) / max(count - 1, 1)
    if plan.ramp_up_strategy == "linear":
        return np.asarray(start + (end - start) * progress)
    return np.asarray(start * (end / start) ** progress)


def arrival_times(plan: ArrivalPlan, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Seconds after the start at which each of `count` requests is due; float64 [count].

    Gaps are drawn from a gamma distribution of shape `burstiness` around each request's rate.
    Without a ramp they are scaled so that the last request comes after exactly count / rate
    seconds: runs of equal rate then offer equal load.
    """
    rates = request_rates(plan, count)
    if not count or (plan.request_rate == inf and plan.ramp_up_strategy is None):
        return np.zeros(count)
    times = np.cumsum(_gaps(rates, plan.burstiness, rng))
    if plan.ramp_up_strategy is None:
        times *= count / plan.request_rate / times[-1]
    return times


def _gaps(
    rates: NDArray[np.float64], burstiness: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    if burstiness == inf:
        return 1 / rates
    return rng.gamma(burstiness, 1 / (rates * burstiness))
