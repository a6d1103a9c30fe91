"""AWQ, SmoothQuant and HQQ on small matrices."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from tests.optimize.matrices import activations, gram_of, matrix, scheme
from vivace.formats.qtensor import INT8
from vivace.formats.rounding import quantize_rows
from vivace.optimize.quantize.awq import scales_of, search_clip, search_scales
from vivace.optimize.quantize.gptq import proxy_loss
from vivace.optimize.quantize.grid import Floats, fit
from vivace.optimize.quantize.hqq import hqq, objective, shrink
from vivace.optimize.quantize.rtn import rtn
from vivace.optimize.quantize.smoothquant import smooth_scales

pytestmark = pytest.mark.tiny


def output_loss(weights: Floats, x: Floats, scales: Floats) -> float:
    """Of inputs divided and weights multiplied by the scales, the weights rounded."""
    values = rtn(weights * scales, scheme(3, 32)).values() / scales
    return float(np.square(x @ (values - weights).T).mean())


def test_scaling_is_chosen_by_the_output_and_never_loses() -> None:
    for seed in range(5):
        x = activations(128, 64, seed)
        loss = partial(output_loss, matrix(16, 64, seed), x)
        scales, exponent = search_scales(np.abs(x).mean(axis=0), loss)
        assert loss(scales) < 0.9 * loss(np.ones(64, np.float32))
        assert 0 < exponent < 1


def test_where_scaling_only_harms_there_is_none() -> None:
    abs_mean = np.abs(activations(32, 16)).mean(axis=0)
    scales, exponent = search_scales(abs_mean, lambda s: float(np.ptp(s)))
    assert exponent == 0
    np.testing.assert_array_equal(scales, 1)


def test_scales_are_balanced_around_one() -> None:
    scales = scales_of(np.asarray([0.0, 0.01, 4.0], np.float32), 0.5)
    assert scales.max() * scales.min() == pytest.approx(1)
    assert scales.max() / scales.min() == pytest.approx((4.0 / 1e-4) ** 0.5)


@pytest.mark.parametrize("zero_points", [False, True])
def test_clipping_is_chosen_by_each_groups_output(zero_points: bool) -> None:
    kind = scheme(3, 32, zero_points)
    weights, gram = matrix(16, 64), gram_of(activations(128, 64))
    blocks = gram * np.kron(np.eye(2, dtype=np.float32), np.ones((32, 32), np.float32))
    clipped = search_clip(weights, gram, kind).round(weights)
    plain = rtn(weights, kind)
    assert proxy_loss(weights, clipped, blocks) < 0.95 * proxy_loss(weights, plain, blocks)
    assert (clipped.grid.scales <= plain.grid.scales).all()


def test_migration_changes_no_product_and_saves_rounded_activations() -> None:
    x, weights = activations(64, 32), matrix(16, 32)
    x[:, 5] *= 100  # an outlier channel
    scales = smooth_scales(np.abs(x).max(axis=0), np.abs(weights).max(axis=0))
    exact = x.astype(np.float64) @ weights.T.astype(np.float64)
    moved = (x / scales).astype(np.float64) @ (weights * scales).T.astype(np.float64)
    np.testing.assert_allclose(moved, exact, rtol=0, atol=1e-5 * np.abs(exact).max())

    def error(x: Floats, weights: Floats) -> float:
        codes, steps = quantize_rows(x)
        return float(
            np.square(codes * steps[:, None] @ rtn(weights, INT8).values().T - exact).sum()
        )

    assert error(x / scales, weights * scales) < 0.05 * error(x, weights)


def test_migration_says_how_much_is_moved() -> None:
    scales = smooth_scales(np.asarray([16], np.float32), np.asarray([81], np.float32), 0.75)
    assert scales[0] == pytest.approx(16**0.75 / 81**0.25)


def test_silent_inputs_are_left_alone() -> None:
    scales = smooth_scales(np.asarray([0, 1], np.float32), np.asarray([1, 0], np.float32))
    np.testing.assert_array_equal(scales, 1)


@pytest.mark.parametrize("zero_points", [False, True])
@pytest.mark.parametrize("bits", [2, 3])
def test_hqq_errs_less_without_any_data(bits: int, zero_points: bool) -> None:
    kind = scheme(bits, 64, zero_points)
    weights = matrix(32, 128)
    found, plain = hqq(weights, kind), rtn(weights, kind)
    better, before = objective(weights, found.grid), objective(weights, plain.grid)
    assert (better <= before).all()
    assert better.sum() < 0.97 * before.sum()
    errors = [np.abs(weights - rounded.values()).mean() for rounded in (found, plain)]
    assert errors[0] < errors[1]
    assert (found.grid.zeros != plain.grid.zeros).any() == zero_points


def test_what_is_on_a_grid_already_stays() -> None:
    kind = scheme(3, 16)
    values = rtn(matrix(4, 32), kind).values()
    grid = fit(values, kind)
    found = hqq(values, kind)
    assert (objective(values, found.grid) <= objective(values, grid)).all()


def test_the_shrinkage_lowers_its_own_objective() -> None:
    errors = np.linspace(-2, 2, 81, dtype=np.float32)
    for beta in (10.0, 100.0):

        def cost(e: Floats, beta: float = beta) -> Floats:
            return np.abs(e) ** np.float32(0.7) + np.float32(beta / 2) * (e - errors) ** 2

        shrunk = shrink(errors, beta)
        assert (np.abs(shrunk) <= np.abs(errors)).all()
        assert cost(shrunk).sum() < cost(errors).sum()
    assert (shrink(np.asarray([0.1, -0.1], np.float32), 10.0) == 0).all()
