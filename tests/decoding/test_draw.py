"""Each sampling option against its own formula, and draws against exact probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from vivace.core.request import Request
from vivace.core.sampling import SamplingParams
from vivace.decoding import draw as drawing
from vivace.decoding.logprobs import likeliest
from vivace.decoding.random_stream import uniform
from vivace.decoding.weights import weights

pytestmark = pytest.mark.tiny

DRAWS = 6_000
OPTIONS = [
    SamplingParams(),
    SamplingParams(temperature=0.4),
    SamplingParams(temperature=2.5),
    SamplingParams(top_k=1),
    SamplingParams(top_k=5),
    SamplingParams(top_p=0.35),
    SamplingParams(top_p=0.9),
    SamplingParams(min_p=0.1),
    SamplingParams(min_p=1.0),
    SamplingParams(temperature=1.7, top_k=9, top_p=0.8),
    SamplingParams(temperature=0.7, top_k=12, top_p=0.95, min_p=0.05),
]


def option_name(params: SamplingParams) -> str:
    names = ("temperature", "top_k", "top_p", "min_p")
    return "-".join(f"{name}={getattr(params, name)}" for name in names)


def logits_of(seed: int, size: int, spread: float = 2.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(size=size) * spread).astype(np.float32)


def limits(logits: NDArray[np.float32], params: SamplingParams) -> drawing.Limits:
    return drawing.limits(params, float(logits.max()), logits.size)


def draw(logits: NDArray[np.float32], params: SamplingParams, place: float) -> int:
    return drawing.draw(logits, limits(logits, params), place)


def kept(logits: NDArray[np.float32], params: SamplingParams) -> list[int]:
    return drawing.kept(logits, limits(logits, params)).tolist()


def exact(logits: NDArray[np.float32], params: SamplingParams) -> NDArray[np.float64]:
    """The distribution by the plainest formulas: temperature, min-p, top-k, top-p."""
    values = [float(logit) / params.temperature for logit in logits]
    total = sum(math.exp(value) for value in values)
    chances = [math.exp(value) / total for value in values]
    allowed = [chance >= params.min_p * max(chances) for chance in chances]
    ranked = sorted(range(len(values)), key=lambda token: (-values[token], token))
    ranked = [token for token in ranked if allowed[token]]
    if params.top_k > 0:
        ranked = ranked[: params.top_k]
    mass, goal = 0.0, params.top_p * sum(chances[token] for token in ranked)
    result = np.zeros(len(values))
    for token in ranked:
        if params.top_p < 1 and mass >= goal:
            break
        mass += chances[token]
        result[token] = chances[token]
    return result / result.sum()


@pytest.mark.parametrize("params", OPTIONS, ids=option_name)
def test_draws_follow_the_exact_distribution(params: SamplingParams) -> None:
    logits = logits_of(seed=1, size=24)
    expected = exact(logits, params) * DRAWS
    request = Request("r", (0,), SamplingParams(seed=7))
    tokens = [draw(logits, params, uniform(request, place, 0)) for place in range(DRAWS)]
    counts = np.bincount(tokens, minlength=logits.size)
    possible = expected > 0
    assert not counts[~possible].any()
    chi_square = (((counts - expected) ** 2)[possible] / expected[possible]).sum()
    freedom = int(possible.sum()) - 1
    assert chi_square <= freedom + 5 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("params", OPTIONS, ids=option_name)
@pytest.mark.parametrize(("size", "spread"), [(17, 2.0), (3000, 0.5), (3000, 6.0)], ids=str)
def test_kept_tokens_are_those_of_the_formula(
    params: SamplingParams, size: int, spread: float
) -> None:
    logits = logits_of(seed=size, size=size, spread=spread)
    expected = np.flatnonzero(exact(logits, params))
    assert kept(logits, params) == expected.tolist()


def test_the_draw_is_the_inverse_of_the_cumulative_distribution() -> None:
    logits = np.log(np.array([0.2, 0.5, 0.3], np.float32))
    params = SamplingParams()
    picks = [draw(logits, params, place) for place in (0.0, 0.19, 0.21, 0.69, 0.71, 1 - 2**-53)]
    assert picks == [0, 0, 1, 1, 2, 2]


def test_the_largest_uniform_stays_within_the_mass() -> None:
    for seed in range(200):
        logits = logits_of(seed, size=50)
        assert draw(logits, SamplingParams(), 1 - 2**-53) == 49
        last = max(logits.argsort()[-7:])
        assert draw(logits, SamplingParams(top_k=7), 1 - 2**-53) == last


def test_impossible_tokens_are_never_drawn() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0, -np.inf], np.float32)
    for params in (SamplingParams(), SamplingParams(top_p=0.999), SamplingParams(top_k=5)):
        for place in (0.0, 0.4999, 0.5, 1 - 2**-53):
            assert draw(logits, params, place) in (1, 3)


def test_a_tiny_temperature_is_greedy_and_quiet() -> None:
    logits = logits_of(seed=3, size=100)
    params = SamplingParams(temperature=1e-300)
    assert draw(logits, params, 0.999) == int(logits.argmax())


def test_equal_logits_rank_by_id() -> None:
    logits = np.array([1, 3, 2, 3, 2, 2], np.float32)
    assert likeliest(logits, 4).tolist() == [1, 3, 2, 4]
    assert likeliest(np.zeros(1000, np.float32), 3).tolist() == [0, 1, 2]
    many = np.random.default_rng(0).integers(0, 5, 5000).astype(np.float32)
    ranked = sorted(range(5000), key=lambda token: (-many[token], token))
    assert likeliest(many, 1700).tolist() == ranked[:1700]


def test_a_min_p_of_one_keeps_all_the_likeliest() -> None:
    assert kept(np.array([0, 5, 1, 5], np.float32), SamplingParams(min_p=1.0)) == [1, 3]


def test_top_k_of_one_is_greedy_even_among_equals() -> None:
    logits = np.array([0, 5, 5, 5], np.float32)
    assert {draw(logits, SamplingParams(top_k=1), place / 10) for place in range(10)} == {1}


def test_top_p_over_a_flat_vocabulary_keeps_its_share() -> None:
    ids = kept(np.zeros(5000, np.float32), SamplingParams(top_p=0.5))
    assert ids == list(range(2500))


def test_weights_are_the_exponentials_in_whole_units() -> None:
    logits = np.linspace(-40, 3, 20_000, dtype=np.float32)
    values = weights(logits, 3.0, 1.0)
    expected = np.exp((logits - np.float32(3)).astype(np.float64)) * 2**32
    assert values[-1] == 2**32
    np.testing.assert_allclose(values, expected, rtol=3e-7, atol=0.51)
    np.testing.assert_array_equal(values, np.rint(2 * values) / 2)
    assert not weights(np.array([-np.inf, -1e30], np.float32), 0.0, 1e37).any()
