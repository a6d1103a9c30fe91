"""Intervals of figures whose spread is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vivace.evaluate.bootstrap import Estimate, bootstrap, quantile, ratio

pytestmark = pytest.mark.tiny

RNG = np.random.default_rng(7)


def test_the_interval_of_a_mean_is_that_of_the_normal_law() -> None:
    values = RNG.normal(3, 2, 400)
    found = bootstrap(ratio(values, np.ones(400)), 400)
    assert found.value == pytest.approx(values.mean())
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    width = 2 * 1.96 * values.std() / math.sqrt(400)
    assert found.high - found.low == pytest.approx(width, rel=0.1)


def test_a_ratio_weighs_units_by_their_size() -> None:
    found = bootstrap(ratio(np.asarray([2.0, 30.0]), np.asarray([1, 10])), 2)
    assert found.value == pytest.approx(32 / 11)
    assert (found.low, found.high) == (2, 3)  # all draws of one unit twice


def test_units_that_are_alike_leave_no_doubt() -> None:
    found = bootstrap(ratio(np.full(9, 0.5), np.ones(9)), 9)
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_one_unit_gives_no_interval() -> None:
    found = bootstrap(ratio(np.asarray([6.0]), np.asarray([2])), 1)
    assert found == Estimate(3)
    assert found.map(math.exp) == Estimate(math.exp(3))


def test_the_same_draws_pair_two_figures() -> None:
    """One thing that always costs 1 more than another does so in every draw, too."""
    costs = RNG.normal(0, 100, 30)
    ones = np.ones(30)
    near, far = bootstrap(ratio(costs, ones), 30), bootstrap(ratio(costs + 1, ones), 30)
    assert near.low is not None
    assert near.high is not None
    assert far.low == pytest.approx(near.low + 1)
    assert far.high == pytest.approx(near.high + 1)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_a_quantile_is_that_of_units_repeated(level: float) -> None:
    values, units = RNG.normal(size=500), np.sort(RNG.integers(0, 8, 500))
    weights = np.asarray([0, 3, 1, 0, 2, 1, 1, 5])
    drawn = np.repeat(values, weights[units])
    found = quantile(values, units, level)(weights)
    assert found == np.quantile(drawn, level, method="inverted_cdf")


def test_an_increasing_function_keeps_the_order() -> None:
    assert Estimate(0, -1, 2).map(math.exp) == Estimate(1, math.exp(-1), math.exp(2))
