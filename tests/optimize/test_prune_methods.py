"""Pruning of one matrix against what it must equal."""

from __future__ import annotations

import numpy as np
import pytest

from tests.optimize.matrices import activations, gram_of, matrix
from vivace.core.errors import UsageError
from vivace.optimize.observe import Floats
from vivace.optimize.prune.methods import METHODS, magnitude, sparsegpt, wanda, wanda_by_matrix
from vivace.optimize.prune.pattern import Mask, Pattern, keep_by_row, pattern_of
from vivace.optimize.surgeon import DAMPING

pytestmark = pytest.mark.tiny

HALF, TWO_OF_FOUR = pattern_of(0.5, None), pattern_of(None, "2:4")


def loss(weights: Floats, pruned: Floats, gram: Floats) -> float:
    """The squared error of the outputs."""
    difference = (weights - pruned).astype(np.float64)
    return float(np.einsum("oi,ij,oj->", difference, gram, difference))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("share", [0.25, 0.5, 0.7])
def test_the_sparsity_is_exact(method: str, share: float) -> None:
    weights, gram = matrix(24, 96), gram_of(activations(200, 96))
    pruned = METHODS[method].prune(weights, gram, Pattern(share))
    assert (pruned == 0).sum() == pytest.approx(share * weights.size, abs=24)
    if method in ("magnitude", "wanda-matrix"):
        assert (pruned == 0).sum() == round(share * weights.size)
    if method == "wanda":
        assert ((pruned == 0).sum(axis=1) == round(share * 96)).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("text", ["2:4", "4:8", "1:4", "2:3"])
def test_every_group_of_a_pattern_keeps_its_number(method: str, text: str) -> None:
    weights, gram = matrix(24, 192), gram_of(activations(300, 192))
    pattern = pattern_of(None, text)
    pruned = METHODS[method].prune(weights, gram, pattern)
    kept = (pruned != 0).reshape(24, -1, pattern.of or 1).sum(axis=2)
    assert (kept == pattern.kept).all()


@pytest.mark.parametrize("pattern", [HALF, TWO_OF_FOUR], ids=str)
def test_equal_inputs_leave_magnitudes(pattern: Pattern) -> None:
    weights, gram = matrix(8, 16), 3 * np.eye(16, dtype=np.float32)
    by_row = keep_by_row(np.abs(weights), pattern)
    np.testing.assert_array_equal(wanda(weights, gram, pattern), by_row)
    by_matrix = wanda_by_matrix(weights, gram, pattern)
    np.testing.assert_array_equal(by_matrix, magnitude(weights, pattern))
    pruned = sparsegpt(weights, gram, pattern)
    np.testing.assert_array_equal(pruned != 0, magnitude(weights, pattern))
    np.testing.assert_array_equal(pruned[pruned != 0], weights[pruned != 0])  # nothing to make up


def test_wanda_compares_within_rows_and_magnitude_within_the_matrix() -> None:
    weights = matrix(8, 16) * np.arange(1, 9, dtype=np.float32)[:, None]
    equal = np.eye(16, dtype=np.float32)
    assert len(set(wanda(weights, equal, HALF).sum(axis=1))) == 1
    assert magnitude(weights, HALF).sum(axis=1)[0] < magnitude(weights, HALF).sum(axis=1)[-1]


def test_wanda_weighs_by_the_norm_of_inputs() -> None:
    x, weights = activations(64, 16), matrix(8, 16)
    scores = np.abs(weights) * np.linalg.norm(x, axis=0)
    kept = wanda(weights, gram_of(x), HALF)
    for row, chosen in zip(scores, kept, strict=True):
        assert row[chosen].min() >= row[~chosen].max()


def optimal_brain_surgeon(weights: Floats, gram: Floats, pattern: Pattern, block: int) -> Floats:
    """By the definition: the inverse Hessian of the columns not passed yet, made anew for each."""
    hessian = gram.astype(np.float64)
    hessian += DAMPING * np.diag(hessian).mean() * np.eye(len(hessian))
    left, kept = weights.astype(np.float64), np.empty(weights.shape, np.bool_)
    at_once = pattern.of or block
    diagonals = [np.linalg.inv(hessian[i:, i:])[0, 0] for i in range(len(hessian))]
    for i in range(len(hessian)):
        if i % at_once == 0:
            chosen = slice(i, i + at_once)
            costs = np.square(left[:, chosen]) / diagonals[chosen]
            kept[:, chosen] = _cheapest_gone(costs, pattern)
        inverse = np.linalg.inv(hessian[i:, i:])
        error = np.where(kept[:, i], 0, left[:, i])
        left[:, i:] -= np.outer(error, inverse[0]) / inverse[0, 0]
        left[~kept[:, i], i] = 0
    return left.astype(np.float32)


def _cheapest_gone(costs: np.ndarray, pattern: Pattern) -> Mask:
    rows = costs if pattern.of else costs.reshape(1, -1)
    gone = round(pattern.sparsity * rows.shape[1])
    return (rows.argsort(axis=1).argsort(axis=1) >= gone).reshape(costs.shape)


@pytest.mark.parametrize("pattern", [HALF, TWO_OF_FOUR], ids=str)
@pytest.mark.parametrize("block", [8, 16])
def test_sparsegpt_equals_the_optimal_brain_surgeon(pattern: Pattern, block: int) -> None:
    for seed in range(5):
        weights, gram = matrix(6, 16, seed), gram_of(activations(64, 16, seed))
        expected = optimal_brain_surgeon(weights, gram, pattern, block)
        found = sparsegpt(weights, gram, pattern, block=block)
        np.testing.assert_array_equal(found == 0, expected == 0)
        np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("pattern", [HALF, TWO_OF_FOUR], ids=str)
def test_methods_that_look_at_inputs_lose_less(pattern: Pattern) -> None:
    for seed in range(5):
        weights, gram = matrix(32, 128, seed), gram_of(activations(512, 128, seed))
        pruned = {name: method.prune(weights, gram, pattern) for name, method in METHODS.items()}
        losses = {name: loss(weights, found, gram) for name, found in pruned.items()}
        masked = np.where(pruned["sparsegpt"] != 0, weights, np.float32(0))
        for name in ("wanda", "wanda-matrix"):
            assert losses["sparsegpt"] < losses[name] < losses["magnitude"]
        assert losses["sparsegpt"] < 0.7 * loss(weights, masked, gram)


def test_blocks_change_nothing_of_a_pattern() -> None:
    weights, gram = matrix(8, 64), gram_of(activations(256, 64))
    results = [sparsegpt(weights, gram, TWO_OF_FOUR, block=block) for block in (4, 30, 64)]
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-5)


def test_silent_inputs_go_first() -> None:
    x = activations(8, 32)  # fewer rows than inputs, too
    x[:, 5] = 0
    weights = matrix(8, 32)
    for method in ("wanda", "sparsegpt"):
        pruned = METHODS[method].prune(weights, gram_of(x), HALF)
        assert np.isfinite(pruned).all()
        assert (pruned[:, 5] == 0).all()


@pytest.mark.parametrize(
    ("sparsity", "groups", "message"),
    [
        (1.0, None, "between 0 and 1"),
        (0.0, None, "between 0 and 1"),
        (None, "4:4", "no pattern"),
        (None, "half", "no pattern"),
        (0.5, "2:4", "one of the two"),
    ],
)
def test_what_is_no_sparsity(sparsity: float | None, groups: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pattern_of(sparsity, groups)
    assert (str(HALF), str(TWO_OF_FOUR)) == ("0.5", "2:4")
