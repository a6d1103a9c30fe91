"""The model of step time: what it learns from steps whose true cost is known."""

from __future__ import annotations

import numpy as np
import pytest

from vivace.core.request import Request
from vivace.core.step import ScheduledSequence, Step
from vivace.scheduler.nonnegative import nonnegative_least_squares
from vivace.scheduler.step_time import GUESS, StepShape, StepTimeModel, attended

pytestmark = pytest.mark.tiny

READ, PER_TOKEN = 0.020, 0.0017  # a kink between 11 and 12 tokens
PER_SEQUENCE, PER_ROW = 50e-6, 200e-6
PER_DECODE_POSITION, PER_PREFILL_POSITION = 0.4e-6, 0.12e-6


def truth(shape: StepShape) -> float:
    """Bound by reading the weights, or by arithmetic."""
    return (
        0.001
        + max(READ, PER_TOKEN * shape.tokens)
        + PER_SEQUENCE * shape.sequences
        + PER_ROW * shape.logit_rows
        + PER_DECODE_POSITION * shape.decode_context
        + PER_PREFILL_POSITION * shape.prefill_context
    )


def some_shape(rng: np.random.Generator) -> StepShape:
    """Decodes, a prompt, or both."""
    decodes = int(2 ** rng.uniform(0, 5)) if rng.random() < 0.7 else 0
    chunk = int(2 ** rng.uniform(1, 9)) if not decodes or rng.random() < 0.5 else 0
    start = int(rng.integers(0, 4000))
    return StepShape(
        tokens=decodes + chunk,
        sequences=decodes + (chunk > 0),
        decodes=decodes,
        decode_context=int(decodes * rng.integers(10, 4000)),
        prefill_context=attended(start, chunk),
        logit_rows=decodes,
    )


def taught(
    rng: np.random.Generator, steps: int, noise: float = 0.0, outliers: float = 0.0
) -> StepTimeModel:
    model = StepTimeModel()
    for _ in range(steps):
        shape = some_shape(rng)
        seconds = truth(shape) * np.exp(rng.normal(0, noise))
        model.observe(shape, seconds * (2 if rng.random() < outliers else 1))
    return model


def errors(model: StepTimeModel, rng: np.random.Generator, count: int = 300) -> list[float]:
    shapes = [some_shape(rng) for _ in range(count)]
    return [model.predict(shape) / truth(shape) - 1 for shape in shapes]


def test_a_shape_counts_what_a_step_computes() -> None:
    request = Request("a", tuple(range(40)))
    tokens = list(range(40))
    step = Step(
        (
            ScheduledSequence(request, tokens, 39, 1, (), True),
            ScheduledSequence(request, tokens, 8, 3, (), False),
            ScheduledSequence(request, tokens, 0, 40, (), True),
        )
    )
    assert StepShape.of(step) == StepShape(
        tokens=44,
        sequences=3,
        decodes=1,
        decode_context=40,
        prefill_context=9 + 10 + 11 + sum(range(1, 41)),
        logit_rows=2,
    )


def test_clean_steps_are_predicted_from_1_to_512_tokens() -> None:
    rng = np.random.default_rng(0)
    model = taught(rng, 600)
    assert max(map(abs, errors(model, rng))) < 0.1
    assert np.median(np.abs(errors(model, rng))) < 0.02


def test_noise_and_outliers_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    model = taught(rng, 1000, noise=0.05, outliers=0.05)
    model.refine()
    found = np.abs(errors(model, rng))
    assert np.quantile(found, 0.95) < 0.1
    assert abs(np.mean(errors(model, rng))) < 0.03


def test_outliers_count_less_than_they_would_in_a_plain_fit() -> None:
    shape = StepShape(4, 4, 4, 400, 0, 4)
    model = StepTimeModel()
    for seconds in (0.02, 0.021, 0.02, 0.0195, 0.06, 0.0205, 0.02):
        model.observe(shape, seconds)
    assert model.refine().predict(shape) == pytest.approx(0.02, rel=0.05)


def test_the_margin_is_what_nine_of_ten_steps_stay_within() -> None:
    assert taught(np.random.default_rng(4), 400).margin < 1.02
    rng = np.random.default_rng(4)
    model = taught(rng, 1000, noise=0.1)
    shapes = [some_shape(rng) for _ in range(500)]
    took = [truth(shape) * np.exp(rng.normal(0, 0.1)) for shape in shapes]
    within = [
        s <= model.margin * model.predict(shape) for s, shape in zip(took, shapes, strict=True)
    ]
    assert np.mean(within) == pytest.approx(0.9, abs=0.04)
    model.forget()
    assert model.margin == 1


def test_many_decodes_do_not_push_out_what_is_known_of_prefill() -> None:
    rng = np.random.default_rng(2)
    model = taught(rng, 400)
    for context in range(20_000):
        shape = StepShape(4, 4, 4, 400 + context % 1000, 0, 4)
        model.observe(shape, truth(shape))
    prefill = StepShape(256, 1, 0, 0, attended(512, 256), 0)
    assert model.predict(prefill) == pytest.approx(truth(prefill), rel=0.1)


def test_a_slower_machine_is_followed() -> None:
    rng = np.random.default_rng(3)
    model, shape = taught(rng, 300), StepShape(8, 8, 8, 8000, 0, 8)
    for _ in range(3000):
        other = some_shape(rng)
        model.observe(other, 2 * truth(other))
    for _ in range(60):
        model.observe(shape, 2 * truth(shape))
    model.refine()
    assert model.predict(shape) == pytest.approx(2 * truth(shape), rel=0.1)


def test_before_the_first_step_a_guess_grows_with_tokens() -> None:
    model = StepTimeModel()
    one, many = StepShape(1, 1, 1, 1, 0, 1), StepShape(512, 1, 0, 0, 1000, 0)
    assert 0 < model.predict(one) < model.predict(many)
    assert model.times is GUESS
    assert not model.settled


@pytest.mark.parametrize("seed", range(5))
def test_predictions_are_never_negative_and_grow(seed: int) -> None:
    """Whatever was seen: here times that mean nothing."""
    rng = np.random.default_rng(seed)
    model = StepTimeModel()
    for steps in range(40):
        model.observe(some_shape(rng), float(rng.uniform(1e-6, 1)))
        times = [model.predict(StepShape(n, 1, 0, 0, n, 0)) for n in range(1, 1000, 37)]
        assert min(times) >= 0, steps
        assert times == sorted(times)


def test_what_is_no_step_teaches_nothing() -> None:
    model = StepTimeModel()
    model.observe(StepShape(0, 0, 0, 0, 0, 0), 0.1)
    assert model.times is GUESS


@pytest.mark.parametrize("seed", range(20))
def test_nonnegative_least_squares_meets_its_conditions(seed: int) -> None:
    """Of all points none is better: no slope at free unknowns, none downhill at the others."""
    rng = np.random.default_rng(seed)
    matrix, wanted = rng.normal(size=(30, 8)), rng.normal(size=30)
    gram, target = matrix.T @ matrix, matrix.T @ wanted
    found = nonnegative_least_squares(gram, target)
    guessed = nonnegative_least_squares(gram, target, rng.random(8) < 0.5)
    np.testing.assert_allclose(guessed, found, atol=1e-9)
    slope = target - gram @ found
    assert found.min() >= 0
    assert np.abs(slope[found > 0]).max(initial=0) < 1e-9
    assert slope[found == 0].max(initial=0) < 1e-9


def test_nonnegative_least_squares_finds_what_is_there() -> None:
    rng = np.random.default_rng(0)
    matrix, truth_ = rng.random((40, 5)), np.array([0.0, 3.0, 0.0, 1.0, 0.5])
    found = nonnegative_least_squares(matrix.T @ matrix, matrix.T @ (matrix @ truth_))
    np.testing.assert_allclose(found, truth_, atol=1e-9)
