"""Steps and lows: better than plain ranges, true to what weighs more, safe at extremes."""

from __future__ import annotations

import numpy as np
import pytest

from vivace.formats.gguf.blocks import dequantize
from vivace.formats.gguf.encode import GROUPED
from vivace.optimize.gguf.rounding import Inputs, to_rows

WIDTH = 512
RNG = np.random.default_rng(3)
LIMITS = {"Q8_0": 3.1e-5, "Q6_K": 3.4e-4, "Q5_K": 1.4e-3, "Q4_K": 5.6e-3, "Q4_0": 7.6e-3}


def matrix(rows: int = 24) -> np.ndarray:
    """Rows of different sizes, some values far out."""
    values = RNG.normal(size=(rows, WIDTH)) * np.exp(RNG.normal(size=(rows, 1)))
    return (values * (1 + 4 * (RNG.random(values.shape) < 0.003))).astype(np.float32)


def rounded(values: np.ndarray, name: str, inputs: Inputs | None = None) -> np.ndarray:
    kind = GROUPED[name].tensor_type
    return dequantize(to_rows(values, kind, inputs), kind)


def error(values: np.ndarray, found: np.ndarray) -> float:
    return float(np.square(found - values).sum() / np.square(values).sum())


@pytest.mark.tiny
@pytest.mark.parametrize("name", LIMITS)
def test_errors_are_those_of_the_bits(name: str) -> None:
    values = RNG.normal(size=(24, WIDTH)).astype(np.float32)
    assert error(values, rounded(values, name)) < LIMITS[name]


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["Q4_0", "Q5_0", "Q5_1", "Q8_0"])
def test_no_worse_than_plain_ranges(name: str) -> None:
    gguf = pytest.importorskip("gguf")
    values, kind = matrix(), getattr(gguf.GGMLQuantizationType, name)
    plain = gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)
    assert error(values, rounded(values, name)) < 0.95 * error(values, plain)


@pytest.mark.tiny
@pytest.mark.parametrize("name", GROUPED)
def test_what_weighs_more_is_rounded_more_finely(name: str) -> None:
    values = matrix()
    powers = np.where(np.arange(WIDTH) % 4 == 0, 100, 1).astype(np.float32)
    inputs = Inputs(np.diag(powers), spreads=False)
    heavy = np.arange(WIDTH) % 4 == 0
    plain, weighted = rounded(values, name), rounded(values, name, inputs)
    assert error(values[:, heavy], weighted[:, heavy]) < error(values[:, heavy], plain[:, heavy])
    assert error(values[:, ~heavy], weighted[:, ~heavy]) > error(
        values[:, ~heavy], plain[:, ~heavy]
    )


@pytest.mark.tiny
@pytest.mark.parametrize("name", GROUPED)
def test_errors_are_made_up_for(name: str) -> None:
    """Outputs, not weights, are what GPTQ keeps."""
    values = matrix()
    inputs = RNG.normal(size=(2048, WIDTH)) @ RNG.normal(size=(WIDTH, WIDTH))
    x = (inputs + 4 * RNG.normal(size=(2048, 1))).astype(np.float32)
    gram = x.T @ x
    losses = [
        np.square(x @ (rounded(values, name, Inputs(gram, spreads)) - values).T).sum()
        for spreads in (False, True)
    ]
    assert losses[1] < 0.75 * losses[0]


@pytest.mark.tiny
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", GROUPED)
@pytest.mark.parametrize("value", [0.0, 1.5, -1.5, 1e-30, 1e6, -1e15])
def test_all_alike(name: str, value: float) -> None:
    """Past what float16 holds the largest that there is is taken."""
    found = rounded(np.full((2, WIDTH), value, np.float32), name)
    assert np.isfinite(found).all()
    if abs(value) <= 10:
        np.testing.assert_allclose(found, value, rtol=0.01, atol=1e-7)


@pytest.mark.tiny
@pytest.mark.parametrize("name", GROUPED)
def test_inputs_that_were_never_there(name: str) -> None:
    found = rounded(matrix(), name, Inputs(np.zeros((WIDTH, WIDTH), np.float32), spreads=True))
    assert np.isfinite(found).all()


@pytest.mark.tiny
@pytest.mark.parametrize("name", GROUPED)
def test_rows_have_nothing_to_do_with_each_other(name: str) -> None:
    values = matrix(1500)  # more than are taken at once
    whole = rounded(values, name)
    np.testing.assert_array_equal(whole[700:720], rounded(values[700:720], name))
