"""The native draw beside its oracle in numpy: the same token, always, at every ISA level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vivace.core.errors import BackendError
from vivace.core.sampling import SamplingParams
from vivace.decoding.draw import draw, limits
from vivace.decoding.native_draw import fastest_draw
from vivace.hardware.isa import levels_up_to

native = pytest.importorskip("vivace.backends.cpu._native")

Row = NDArray[np.float32]
AVAILABLE = levels_up_to(native.best_isa())

# below and around 16 lanes, blocks of 256 and the 4096 values from which a selection sifts
SIZES = (1, 2, 15, 16, 17, 100, 255, 256, 257, 1000, 5000, 20_000)
KINDS = {
    "normal": lambda rng, size: rng.normal(size=size),
    "flat": lambda rng, size: rng.normal(size=size) * 0.01,
    "peaked": lambda rng, size: rng.normal(size=size) * 30,
    "equal": lambda rng, size: np.zeros(size),
    "ties": lambda rng, size: rng.integers(-2, 3, size),
    "zeros of both signs": lambda rng, size: rng.choice([-0.0, 0.0, 1e-45, -1e-45], size),
    "masked": lambda rng, size: np.where(rng.random(size) < 0.5, -np.inf, rng.normal(size=size)),
    "huge": lambda rng, size: rng.choice([-3.4e38, -1e30, 0, 3e38], size) + rng.normal(size=size),
}


def row_of(kind: str, size: int, seed: int) -> Row:
    rng = np.random.default_rng(seed)
    row = KINDS[kind](rng, size).astype(np.float32)
    row[rng.integers(size)] = max(0, row.max())  # at least one token is possible
    return row


def by_level(row: Row, params: SamplingParams, uniform: float) -> dict[str, int]:
    choice = limits(params, float(row.max()), row.size)
    arguments: tuple[Any, ...] = (
        choice.best,
        choice.inverse_temperature,
        choice.least,
        choice.count,
        choice.top_p,
        uniform,
    )
    return {level: native.RowSampler(level).draw(row, *arguments) for level in AVAILABLE}


options = st.builds(
    SamplingParams,
    temperature=st.sampled_from([1e-300, 1e-3, 0.7, 1.0, 3.0, 100.0]),
    top_k=st.sampled_from([0, 1, 2, 5, 17, 500, 6000, 10**6]),
    top_p=st.sampled_from([1.0, 1 - 2**-53, 0.999, 0.9, 0.5, 1e-9, 1e-300]),
    min_p=st.sampled_from([0.0, 1e-300, 0.01, 0.5, 1.0]),
)
uniforms = st.floats(0, 1, exclude_max=True) | st.just(1 - 2**-53)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    st.sampled_from(sorted(KINDS)),
    st.sampled_from(SIZES),
    st.integers(0, 2**32 - 1),
    options,
    uniforms,
)
def test_native_draws_are_numpys(
    kind: str, size: int, seed: int, params: SamplingParams, uniform: float
) -> None:
    row = row_of(kind, size, seed)
    expected = draw(row, limits(params, float(row.max()), size), uniform)
    assert by_level(row, params, uniform) == dict.fromkeys(AVAILABLE, expected)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3])
@pytest.mark.parametrize("top_k", [0, 50, 9000])
def test_native_draws_are_numpys_over_a_large_vocabulary(
    kind: str, top_p: float, top_k: int
) -> None:
    row = row_of(kind, 70_001, seed=3)
    params = SamplingParams(temperature=0.8, top_p=top_p, top_k=top_k)
    for uniform in (0.0, 0.37, 0.9, 1 - 2**-53):
        expected = draw(row, limits(params, float(row.max()), row.size), uniform)
        assert by_level(row, params, uniform) == dict.fromkeys(AVAILABLE, expected)


def test_a_level_that_is_not_here_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVACE_ISA", "mmx")
    with pytest.raises(BackendError, match="mmx"):
        fastest_draw()


def test_native_code_of_another_version_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(native, "RowSampler")
    with pytest.raises(BackendError, match="build it again"):
        fastest_draw()
