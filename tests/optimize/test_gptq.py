"""GPTQ against what it must equal on small matrices."""

from __future__ import annotations

import numpy as np
import pytest

from tests.optimize.matrices import activations, gram_of, matrix, scheme
from vivace.optimize.quantize.gptq import gptq, proxy_loss
from vivace.optimize.quantize.grid import Floats, Grid, code_range, fit, to_codes
from vivace.optimize.quantize.rtn import rtn
from vivace.optimize.surgeon import inverse_factor

pytestmark = pytest.mark.tiny


def damped(gram: Floats, damping: float = 0.01) -> np.ndarray:
    hessian = gram.astype(np.float64)
    return hessian + damping * np.diag(hessian).mean() * np.eye(len(hessian))


def optimal_brain_quantizer(
    weights: Floats, hessian: np.ndarray, grid: Grid, order: np.ndarray
) -> np.ndarray:
    """By the definition: after each column, the inverse Hessian of those left, and the best update
    of the weights left."""
    left = weights.astype(np.float64)
    codes = np.empty(left.shape, np.int16)
    scales, zeros = grid.spread(left.shape[1])
    for place, i in enumerate(order):
        free = order[place:]
        inverse = np.linalg.inv(hessian[np.ix_(free, free)])
        columns = (part[:, i].astype(np.float32) for part in (left, scales, zeros))
        codes[:, i] = to_codes(*columns, code_range(grid.scheme))
        error = left[:, i] - (codes[:, i] - zeros[:, i]) * scales[:, i]
        left[:, free] -= np.outer(error, inverse[0]) / inverse[0, 0]
    return codes


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("zero_points", [False, True])
def test_it_equals_the_optimal_brain_quantizer(act_order: bool, zero_points: bool) -> None:
    for seed in range(5):
        weights, gram = matrix(6, 16, seed), gram_of(activations(64, 16, seed))
        grid = fit(weights, scheme(3, 8, zero_points))
        order = np.argsort(-np.diag(gram), kind="stable") if act_order else np.arange(16)
        expected = optimal_brain_quantizer(weights, damped(gram), grid, order)
        np.testing.assert_array_equal(gptq(weights, gram, grid, act_order).codes, expected)


def test_it_equals_the_nearest_plane_of_babai() -> None:
    """The last column is the first that Babai's algorithm rounds: in a lattice with the basis
    R' (H = R R'), back to front."""
    weights, gram = matrix(5, 12, 3), gram_of(activations(48, 12, 3))
    grid = fit(weights, scheme(4, None))
    root = np.linalg.cholesky(damped(gram)[::-1, ::-1])[::-1, ::-1]  # upper: H = R R'
    codes = np.zeros(weights.shape, np.int16)
    for row, scale in enumerate(grid.scales[:, 0]):
        # Columns of the basis are the rows of R, so residuals are projected from the first input.
        target = (weights[row].astype(np.float64) / scale) @ root
        for i in range(12):
            code = np.clip(np.rint(target[i] / root[i, i]), *code_range(grid.scheme))
            codes[row, i] = code
            target -= code * root[i]
    np.testing.assert_array_equal(gptq(weights, gram, grid, act_order=False).codes, codes)


def test_inputs_without_correlation_leave_rounding_to_nearest() -> None:
    weights = matrix(8, 64)
    kind = scheme(4, 16)
    found = gptq(weights, np.eye(64, dtype=np.float32), fit(weights, kind))
    np.testing.assert_array_equal(found.codes, rtn(weights, kind).codes)


@pytest.mark.parametrize("act_order", [False, True])
def test_blocks_change_nothing(act_order: bool) -> None:
    weights, gram = matrix(8, 64), gram_of(activations(256, 64))
    grid = fit(weights, scheme(4, 16))
    results = [gptq(weights, gram, grid, act_order, block=block).codes for block in (1, 24, 64)]
    for result in results[1:]:
        assert (result == results[0]).mean() > 0.995  # but for ties that float sums move


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("act_order", [False, True])
def test_outputs_err_less_than_rounding_to_nearest(bits: int, act_order: bool) -> None:
    for seed in range(5):
        weights, gram = matrix(16, 64, seed), gram_of(activations(256, 64, seed))
        grid = fit(weights, scheme(bits, 32))
        losses = [
            proxy_loss(weights, rounded, gram)
            for rounded in (gptq(weights, gram, grid, act_order), grid.round(weights))
        ]
        assert losses[0] < 0.8 * losses[1]


def test_inputs_of_low_rank_and_silent_ones() -> None:
    x = activations(5, 32)  # fewer rows than inputs
    x[:, 3] = 0
    weights = matrix(8, 32)
    rounded = gptq(weights, gram_of(x), fit(weights, scheme(4, 16)))
    assert np.isfinite(rounded.values()).all()
    nearest = rtn(weights, scheme(4, 16))
    np.testing.assert_array_equal(rounded.codes[:, 3], nearest.codes[:, 3])
    silent = gptq(weights, np.zeros((32, 32), np.float32), fit(weights, scheme(4, 16)))
    np.testing.assert_array_equal(silent.codes, nearest.codes)


def test_the_factor_is_that_of_the_inverse() -> None:
    gram = gram_of(activations(64, 24))
    factor = inverse_factor(gram)
    np.testing.assert_allclose(factor.T @ factor, np.linalg.inv(damped(gram)), rtol=1e-6)
    assert (np.tril(factor, -1) == 0).all()


def test_inputs_that_are_not_finite_are_refused() -> None:
    gram = np.full((4, 4), np.nan, np.float32)
    with pytest.raises(ValueError, match="not finite"):
        gptq(matrix(2, 4), gram, fit(matrix(2, 4), scheme(4, None)))
