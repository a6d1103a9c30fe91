"""Rounding to nearest and int8 activations, against what the formats promise."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivace.formats.qtensor import INT8, QTensor, Scheme
from vivace.formats.rounding import quantize_rows, round_to
from vivace.formats.schemes import SCHEMES, int4

pytestmark = pytest.mark.tiny

EVERY = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
SHAPES = [(1, 1), (3, 31), (5, 33), (4, 128), (2, 129), (7, 300)]


def weights(shape: tuple[int, int], seed: int, scale: float = 0.05) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(shape) * scale
    return values.astype(np.float32)


def rounded(values: np.ndarray, scheme: Scheme) -> QTensor:
    return round_to(QTensor.from_array("w", values), scheme)


def spread_scales(tensor: QTensor) -> np.ndarray:
    """Each weight's scale, [out, in]."""
    _, scales = tensor.integers()
    width = tensor.shape[1]
    return np.repeat(scales, tensor.scheme.group_size or width, axis=1)[:, :width]


@EVERY
@given(
    shape=st.sampled_from(SHAPES),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1e-3, 0.05, 1.0, 300.0]),
    shift=st.sampled_from([0.0, 2.0, -2.0]),
)
@settings(max_examples=25, deadline=None)
def test_errors_are_at_most_half_a_step(
    scheme: Scheme, shape: tuple[int, int], seed: int, scale: float, shift: float
) -> None:
    values = weights(shape, seed, scale) + np.float32(shift * scale)
    tensor = rounded(values, scheme)
    step = spread_scales(tensor)
    error = np.abs(values - tensor.to_float32())
    # Where the range ends, scales rounded down to float16 (which ends at 2^-24) cost up to eight
    # times that rounding, and zero points half a step by their own.
    steps = 1.02 if scheme.zero_points else 0.51
    assert (error <= step * steps + 2**-21).all()
    inside = np.abs(tensor.integers()[0]) < (7 if scheme.bits == 4 else 127)
    if not scheme.zero_points:
        assert (error <= step * 0.5001)[inside].all()


@EVERY
def test_rounding_again_at_the_same_scales_changes_nothing(scheme: Scheme) -> None:
    tensor = rounded(weights((9, 300), 1), scheme)
    codes, _ = tensor.integers()
    step = spread_scales(tensor)
    np.testing.assert_array_equal(np.rint(tensor.to_float32() / step), codes)
    if scheme == INT8:
        again = rounded(tensor.to_float32(), scheme)
        np.testing.assert_array_equal(again.buffers["weight"], tensor.buffers["weight"])


@pytest.mark.parametrize("scheme", [int4(32), int4(32, zero_points=True)], ids=lambda s: s.name)
@pytest.mark.parametrize("width", [31, 32, 33, 64, 65])
def test_codes_stand_where_the_format_says(scheme: Scheme, width: int) -> None:
    tensor = rounded(weights((3, width), 2), scheme)
    packed, scales = tensor.buffers["weight_packed"], tensor.buffers["weight_scale"]
    groups = -(-width // 32)
    assert (packed.shape, packed.dtype) == ((3, -(-width // 2)), np.uint8)
    assert (scales.shape, scales.dtype) == ((3, groups), np.float16)
    for row, column in [(0, 0), (1, width - 1), (2, width // 2)]:
        nibble = int(packed[row, column // 2]) >> (4 * (column % 2)) & 15
        zero = tensor.buffers["weight_zero_point"][row, column // 32] if scheme.zero_points else 8
        expected = np.float32(scales[row, column // 32]) * np.float32(nibble - int(zero))
        assert tensor.to_float32()[row, column] == expected


def test_each_scheme_by_its_definition() -> None:
    """Written out for one group, from the definitions."""
    values = weights((1, 32), 3)
    absmax = np.abs(values).max()
    int8 = rounded(values, INT8)
    step = absmax / np.float32(127)
    np.testing.assert_array_equal(int8.buffers["weight"], np.rint(values / step))

    step = np.float32(np.float16(absmax / np.float32(7.5)))
    codes = np.clip(np.rint(values / step), -8, 7)
    np.testing.assert_array_equal(rounded(values, int4(32)).to_float32(), codes * step)

    low, high = min(values.min(), 0), max(values.max(), 0)
    step = np.float32(np.float16((high - low) / np.float32(15)))
    zero = np.clip(np.rint(-low / step), 0, 15)
    codes = np.clip(np.rint(values / step) + zero, 0, 15)
    np.testing.assert_array_equal(
        rounded(values, int4(32, zero_points=True)).to_float32(), (codes - zero) * step
    )


@EVERY
def test_groups_of_one_value_and_of_none(scheme: Scheme) -> None:
    values = np.zeros((3, 200), np.float32)
    values[1], values[2] = 0.3, -0.7
    tensor = rounded(values, scheme)
    result = tensor.to_float32()
    assert (result[0] == 0).all()
    np.testing.assert_allclose(result, values, rtol=0.07)  # 7.5 becomes 7 or 8


def test_halves_round_to_even_and_the_largest_is_clipped() -> None:
    values = np.zeros((1, 32), np.float32)
    values[0, :6] = [7.5, -7.5, 0.5, 1.5, 2.5, -0.5]  # the scale is 1
    codes, scales = rounded(values, int4(32)).integers()
    assert scales.item() == 1
    assert codes[0, :6].tolist() == [7, -8, 0, 2, 2, 0]


def test_smaller_groups_and_more_bits_err_less() -> None:
    values = weights((64, 512), 4)

    def error(scheme: Scheme) -> float:
        return float(np.square(rounded(values, scheme).to_float32() - values).mean())

    errors = [error(scheme) for scheme in (INT8, int4(32), int4(64), int4(128))]
    assert errors == sorted(errors)
    assert error(int4(128, zero_points=True)) < error(int4(128))


@pytest.mark.parametrize(
    ("scheme", "bits"),
    [(INT8, 8 + 32 / 512), (int4(128), 4 + 16 / 128), (int4(32, zero_points=True), 4 + 24 / 32)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_bits_are_counted_from_real_bytes(scheme: Scheme, bits: float) -> None:
    tensor = rounded(weights((16, 512), 5), scheme)
    assert 8 * tensor.nbytes / values_of(tensor) == pytest.approx(bits)
    assert scheme.matrix_bytes(16, 512) == tensor.nbytes
    odd = rounded(weights((5, 131), 5), scheme)
    assert scheme.matrix_bytes(5, 131) == odd.nbytes


def values_of(tensor: QTensor) -> int:
    return int(np.prod(tensor.shape))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_the_stored_float_type_is_widened_first(dtype: type) -> None:
    values = weights((4, 64), 6).astype(dtype)
    narrow, wide = rounded(values, int4(64)), rounded(values.astype(np.float32), int4(64))
    np.testing.assert_array_equal(narrow.to_float32(), wide.to_float32())


@given(seed=st.integers(0, 2**32 - 1), width=st.integers(1, 300), scale=st.floats(1e-20, 1e20))
@settings(max_examples=50, deadline=None)
def test_rows_are_within_half_a_step(seed: int, width: int, scale: float) -> None:
    x = weights((4, width), seed, scale)
    codes, scales = quantize_rows(x)
    assert (codes.dtype, np.abs(codes).max()) == (np.int8, 127)
    error = np.abs(codes * scales[:, None] - x)
    assert (error <= scales[:, None] * 0.5001).all()


def test_silent_rows_are_zero() -> None:
    x = np.asarray([[0.0, 0.0], [9e-31, -1e-31], [2e-30, 0.0]], np.float32)
    codes, scales = quantize_rows(x)
    assert codes.tolist() == [[0, 0], [0, 0], [127, 0]]
    assert scales.tolist()[:2] == [0.0, 0.0]


def test_rows_that_are_not_finite_have_no_scale() -> None:
    x = np.asarray([[np.nan, 1.0], [np.inf, 3e38], [-np.inf, 0.0], [1.0, -2.0]], np.float32)
    codes, scales = quantize_rows(x)
    assert codes.tolist() == [[0, 0], [0, 0], [0, 0], [64, -127]]
    assert np.isnan(scales).tolist() == [True, True, True, False]
