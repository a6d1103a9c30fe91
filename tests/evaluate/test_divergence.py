"""Costs and divergences of small matrices, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vivace.evaluate.divergence import (
    kl_divergence,
    log_probabilities,
    negative_log_likelihood,
    same_top1,
)

pytestmark = pytest.mark.tiny

HALVES = np.log(np.asarray([[4, 2, 2], [1, 1, 6]], np.float32))  # of 8


def rows(*values: list[float]) -> np.ndarray:
    return log_probabilities(np.asarray(values, np.float32))


def test_log_probabilities_are_those_of_softmax() -> None:
    np.testing.assert_allclose(
        np.exp(log_probabilities(HALVES)), [[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]], rtol=1e-6
    )


def test_a_constant_added_to_logits_changes_nothing_and_large_ones_do_not_overflow() -> None:
    moved = log_probabilities(np.asarray([[8192, 0, -8192]], np.float32))
    np.testing.assert_array_equal(moved, [[0, -8192, -16384]])
    np.testing.assert_array_equal(moved, rows([8193, 1, -8191]))


def test_a_target_costs_its_negative_log_probability() -> None:
    costs = negative_log_likelihood(log_probabilities(HALVES), [0, 2])
    np.testing.assert_allclose(costs, [math.log(2), math.log(4 / 3)], rtol=1e-6)


def test_kl_to_the_uniform_is_what_entropy_lacks() -> None:
    uniform = rows([0, 0, 0], [0, 0, 0])
    lacking = math.log(3) - 1.5 * math.log(2)  # ln 3 - H(1/2, 1/4, 1/4)
    assert kl_divergence(log_probabilities(HALVES), uniform)[0] == pytest.approx(lacking, rel=1e-6)


def test_kl_has_a_direction() -> None:
    """KL((1/2, 1/2) || (9/10, 1/10)) is not the way back."""
    even, odd = rows([0, 0]), rows([math.log(9), 0])
    forth = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    back = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert kl_divergence(even, odd)[0] == pytest.approx(forth, rel=1e-6)
    assert kl_divergence(odd, even)[0] == pytest.approx(back, rel=1e-6)


def test_kl_of_equals_is_zero_to_the_bit() -> None:
    logits = np.random.default_rng(1).normal(0, 9, (20, 300)).astype(np.float32)
    base = log_probabilities(logits)
    assert (kl_divergence(base, log_probabilities(logits)) == 0).all()


def test_a_divergence_far_below_that_of_float32_is_seen() -> None:
    """For small differences d, KL is half the variance of d under the base."""
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 2, (4, 50)).astype(np.float32)
    moved = (logits + rng.normal(0, 3e-5, logits.shape)).astype(np.float32)
    base = log_probabilities(logits)
    differences = moved.astype(np.float64) - logits
    means = (np.exp(base) * differences).sum(axis=1, keepdims=True)
    expected = 0.5 * (np.exp(base) * (differences - means) ** 2).sum(axis=1)
    assert expected.max() < 1e-8
    np.testing.assert_allclose(kl_divergence(base, log_probabilities(moved)), expected, rtol=1e-3)


def test_the_likeliest_token_is_the_first_of_equals() -> None:
    base = rows([1, 1, 0], [0, 2, 1], [0, 0, 1])
    other = rows([5, 4, 0], [3, 2, 1], [-1, -1, 9])
    assert same_top1(base, other).tolist() == [True, False, True]
