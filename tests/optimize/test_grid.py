"""Grids and rounding to nearest."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.optimize.matrices import matrix, scheme
from vivace.formats.qtensor import INT8, QTensor, Scheme
from vivace.formats.rounding import round_to
from vivace.formats.schemes import int4
from vivace.optimize.quantize.grid import code_range, fit
from vivace.optimize.quantize.rtn import rtn

pytestmark = pytest.mark.tiny

SCHEMES = [
    INT8,
    *(scheme(bits, size, zeros) for bits in (2, 3, 4) for size in (16, 64) for zeros in (0, 1)),
]
EVERY = pytest.mark.parametrize("kind", SCHEMES, ids=lambda s: f"{s.bits}-{s.group_size}")


@EVERY
def test_errors_are_at_most_half_a_step_inside_the_grid(kind: Scheme) -> None:
    weights = matrix(8, 128)
    rounded = rtn(weights, kind)
    scales, zeros = rounded.grid.spread(128)
    low, high = code_range(kind)
    inside = (weights / scales + zeros >= low) & (weights / scales + zeros <= high)
    error = np.abs(weights - rounded.values())
    assert (error <= 0.5001 * scales)[inside].all()
    assert (error <= 1.1 * scales).all()  # what lies past the last code
    assert ((rounded.codes >= low) & (rounded.codes <= high)).all()


@EVERY
def test_a_rounded_matrix_rounds_to_itself(kind: Scheme) -> None:
    rounded = rtn(matrix(8, 128), kind)
    np.testing.assert_array_equal(rounded.grid.round(rounded.values()).codes, rounded.codes)


@pytest.mark.parametrize("kind", SCHEMES[1:], ids=lambda s: s.name)
def test_scales_are_the_same_numbers_in_both_half_precisions(kind: Scheme) -> None:
    weights = matrix(8, 128) * np.float32(10) ** np.arange(-6, 2, dtype=np.float32)[:, None]
    scales = fit(weights, kind).scales
    assert scales.min() < 1e-5
    for narrow in (np.float16, ml_dtypes.bfloat16):
        np.testing.assert_array_equal(scales.astype(narrow).astype(np.float32), scales)


def test_it_is_the_rounding_of_loading_but_for_the_scales_digits() -> None:
    weights = matrix(8, 128)
    np.testing.assert_array_equal(
        rtn(weights, INT8).values(), round_to(QTensor.from_array("w", weights), INT8).to_float32()
    )
    loaded = round_to(QTensor.from_array("w", weights), int4(32)).to_float32()
    error = np.abs(rtn(weights, int4(32)).values() - loaded)
    assert 0 < np.median(error) < 0.005 * np.median(np.abs(loaded))


def test_more_bits_and_smaller_groups_err_less() -> None:
    weights = matrix(32, 256)
    kinds = [INT8, scheme(4, 16), scheme(4, 128), scheme(3, 128), scheme(2, 128)]
    errors = [float(np.square(rtn(weights, kind).values() - weights).mean()) for kind in kinds]
    assert errors == sorted(errors)


@EVERY
def test_groups_of_one_value_and_of_none(kind: Scheme) -> None:
    weights = np.zeros((3, 128), np.float32)
    weights[1], weights[2] = 0.3, -0.7
    values = rtn(weights, kind).values()
    assert (values[0] == 0).all()
    np.testing.assert_allclose(values, weights, rtol=0.34)  # 1.5 steps are 1 or 2


def test_limits_shrink_the_range() -> None:
    weights = matrix(4, 32)
    limits = np.full((4, 2), 0.02, np.float32)
    grid = fit(weights, scheme(4, 16), limits)
    assert grid.scales.max() <= 0.02 / 7.5 * 1.01
    assert np.abs(grid.round(weights).values()).max() <= 0.022
