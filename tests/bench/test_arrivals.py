"""Arrival processes: their rates, their spread, and that a seed fixes them."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
import pytest

from vivace.bench.arrivals import arrival_times, request_rates
from vivace.bench.plans import ArrivalPlan
from vivace.core.errors import UsageError

pytestmark = pytest.mark.tiny

COUNT = 20_000


def times(count: int = COUNT, seed: int = 0, **plan: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    return arrival_times(ArrivalPlan(**plan), count, np.random.default_rng(seed))


def test_all_at_once() -> None:
    assert (times(5) == 0).all()
    assert times(0).shape == (0,)


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gaps_are_of_the_gamma_distribution_asked_for(burstiness: float) -> None:
    found = times(request_rate=50.0, burstiness=burstiness)
    gaps = np.diff(found)
    assert found[-1] == pytest.approx(COUNT / 50)
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.02)
    # A gamma distribution's standard deviation is its mean over the root of its shape.
    assert gaps.std() / gaps.mean() == pytest.approx(burstiness**-0.5, rel=0.05)


def test_a_burstiness_of_one_is_a_poisson_process() -> None:
    gaps = np.diff(times(request_rate=1.0))
    for length in (0.1, 1.0, 3.0):  # exponential: P(gap > length) = exp(-length)
        assert (gaps > length).mean() == pytest.approx(np.exp(-length), abs=0.01)


def test_infinite_burstiness_is_even() -> None:
    assert times(4, request_rate=2.0, burstiness=inf) == pytest.approx([0.5, 1.0, 1.5, 2.0])


def test_a_seed_fixes_the_times() -> None:
    assert (times(9, 3, request_rate=2.0) == times(9, 3, request_rate=2.0)).all()
    assert (times(9, 3, request_rate=2.0) != times(9, 4, request_rate=2.0)).any()


@pytest.mark.parametrize(
    ("strategy", "rates"), [("linear", [2, 5, 8, 11, 14]), ("exponential", [1, 2, 4, 8, 16])]
)
def test_a_ramp_goes_from_its_start_to_its_end(strategy: Any, rates: list[float]) -> None:
    plan = ArrivalPlan(
        ramp_up_strategy=strategy, ramp_up_start_rps=rates[0], ramp_up_end_rps=rates[-1]
    )
    assert request_rates(plan, 5) == pytest.approx(rates)
    assert request_rates(plan, 1) == pytest.approx(rates[:1])


def test_a_ramp_is_followed() -> None:
    ramp = {"ramp_up_strategy": "linear", "ramp_up_start_rps": 10.0, "ramp_up_end_rps": 90.0}
    found = times(burstiness=inf, **ramp)
    assert np.diff(found)[0] == pytest.approx(1 / 10, rel=0.01)
    assert np.diff(found)[-1] == pytest.approx(1 / 90, rel=0.01)


@pytest.mark.parametrize("burstiness", [0.25, 4.0])
def test_burstiness_does_not_change_the_rate_of_a_ramp(burstiness: float) -> None:
    ramp = {"ramp_up_strategy": "linear", "ramp_up_start_rps": 50.0, "ramp_up_end_rps": 50.0}
    gaps = np.diff(times(burstiness=burstiness, **ramp))
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.05)


@pytest.mark.parametrize(
    "plan",
    [
        {"request_rate": 0.0},
        {"request_rate": float("nan")},
        {"burstiness": -1.0},
        {"ramp_up_start_rps": 1.0},
        {"ramp_up_strategy": "linear"},
        {"ramp_up_strategy": "linear", "ramp_up_start_rps": 0.0, "ramp_up_end_rps": 1.0},
        {
            "ramp_up_strategy": "linear",
            "ramp_up_start_rps": 1.0,
            "ramp_up_end_rps": 2.0,
            "request_rate": 3.0,
        },
    ],
)
def test_what_makes_no_sense_is_refused(plan: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ArrivalPlan(**plan)
